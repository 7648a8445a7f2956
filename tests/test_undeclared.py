"""A stage reads and writes what dvc.yaml declares for it, and nothing else of the project.

Each stage runs for real in a copy of the project in which the data that it does not declare are empty files
and params.yaml has no other sections, with an eye on every file that it opens. What code of other languages
opens (Parquet's, safetensors') goes unseen, but would be empty.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from ruamel.yaml import YAML

from slm.params import PARAMS_FILE, read_yaml
from slm.stage import DVC_FILE, Stage, resolve
from stages.check import SECTIONS
from stages.impact import outputs, sections_of
from stages.imports import imported_files
from tests.pipeline import STAGES
from tests.project import ROOT, clone

EACH = ["score", "finetune", "ask"]  # which run for each item of params.yaml
HIDDEN = (".git/", ".dvc/", ".slm/")  # the last is a stage's log and the states of a training, no results
WATCHED = """
import json, os, runpy, sys
opened = []
def note(event, arguments):
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str | bytes) and flags & os.O_ACCMODE == os.O_RDONLY:
            opened.append(os.path.relpath(os.fsdecode(path)))
sys.addaudithook(note)
stage, log = sys.argv[1:]
try:
    runpy.run_module(f"stages.{stage}", run_name="__main__")
finally:
    open(log, "w").write(json.dumps([opened, "torch" in sys.modules]))
"""
NEED_TORCH = {"train", "evaluate", "sample", "quality"}


class Run(NamedTuple):
    """A stage's run in a folder of its own: the files there, before and after, and those that it opened."""

    folder: Path
    inputs: set[str]
    before: dict[str, bytes]
    after: dict[str, bytes]
    opened: set[str]
    loaded_torch: bool


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The run of each stage, which saw nothing but what is declared for it."""
    whole, found = clone(tmp_path_factory.mktemp("whole")), {}
    for stage in STAGES:
        folder, log = tmp_path_factory.mktemp(stage), tmp_path_factory.mktemp("log") / "opened.json"
        inputs, outs = prepare(stage, whole, folder), outputs(declared(stage))
        before = files_in(folder)
        command = [sys.executable, "-c", WATCHED, stage, str(log)]
        env = {**os.environ, "SLM_PROGRESS": "off", "PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert result.returncode == 0, f"{stage} cannot do with what it declares:\n{result.stderr}"
        after, (opened, loaded_torch) = files_in(folder), json.loads(log.read_text())
        found[stage] = Run(folder, inputs, before, after, ours(opened), loaded_torch)
        for name in after.keys() - outside(after, outs):
            write(whole / name, after[name])
    return found


def prepare(stage, whole, folder):
    """Copy the project as the stage may see it, without what it will write; give the names of its inputs."""
    values, outs = read_yaml(whole / PARAMS_FILE), outputs(declared(stage))
    inputs = {str(DVC_FILE), str(PARAMS_FILE), *(resolve(dep, values) for dep in declared(stage)["deps"])}
    project = files_in(whole)
    for name in outside(project, outs):  # DVC has removed those
        is_kept = name.endswith(".py") or not outside([name], inputs)
        write(folder / name, project[name] if is_kept else b"")
    with (folder / PARAMS_FILE).open("w", encoding="utf-8") as file:
        YAML().dump({section: values[section] for section in sections(stage)}, file)
    return inputs


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def files_in(folder):
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(HIDDEN)}


def ours(opened):
    """Those of the opened files that lie in the project; Python looks for compiled code first."""
    return {name for name in opened if not name.startswith(("..", *HIDDEN)) and "__pycache__" not in name}


def sections(stage):
    """The sections of params.yaml that dvc.yaml declares for a stage; of `finetune` only the model's key."""
    return {param.partition(".")[0] for param in declared(stage).get("params", [])}


def declared(stage):
    """What dvc.yaml says of a stage."""
    found = read_yaml(ROOT / DVC_FILE)["stages"][stage]
    return found.get("do", found)


def outside(names, folders):
    """The names that are none of these files and lie in none of these folders."""
    allowed = {Path(folder) for folder in folders}
    return {name for name in names if not allowed & {Path(name), *Path(name).parents}}


@pytest.mark.parametrize("stage", [*STAGES, *EACH])
def test_a_stage_depends_on_all_the_code_it_imports_and_on_no_other(stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    deps = {dep for dep in declared(stage)["deps"] if dep.endswith(".py")}
    files = imported_files(Path(f"stages/{stage}.py"))
    undeclared, unused = files - deps, deps - files
    assert (undeclared, unused) == (set(), set())


@pytest.mark.parametrize("stage", [*STAGES, *EACH])
def test_a_stage_declares_the_sections_that_it_loads_and_no_other(stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert sections_of(stage) == sections(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_writes_what_it_declares_and_nothing_else(stage, runs):
    before, after = runs[stage].before, runs[stage].after
    written = {name for name in after if after[name] != before.get(name)}
    outs = outputs(declared(stage))
    assert not outside(written, outs), "written and not declared"
    removed = before.keys() - after.keys()
    assert not removed
    for out in outs:
        assert outside(written, [out]) != written, f"{out} is declared and not written"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_what_it_declares_and_what_it_wrote_itself(stage, runs):
    run = runs[stage]
    assert {str(PARAMS_FILE), f"stages/{stage}.py"} <= run.opened, "the eye is blind"
    assert not outside(run.opened, {*run.inputs, *outputs(declared(stage))})


@pytest.mark.parametrize("stage", STAGES)
def test_a_section_that_is_not_declared_cannot_be_loaded(stage, runs, monkeypatch):
    monkeypatch.chdir(runs[stage].folder)
    loading = Stage(stage)
    for section in SECTIONS:
        if section.section not in sections(stage):
            name = section.section
            with pytest.raises(LookupError, match=f"stage {stage} does not declare the params `{name}`"):
                loading.load(section)


def test_no_stage_reads_the_params_past_its_declaration(monkeypatch):
    monkeypatch.chdir(ROOT)
    files = set.union(*(imported_files(Path(f"stages/{stage}.py")) for stage in [*STAGES, *EACH]))
    ways = re.compile(r"read_yaml|YAML\(|Params\.load\(|PARAMS_FILE\.|params_show")
    found = {file for file in files if ways.search(Path(file).read_text(encoding="utf-8"))}
    assert found == {"slm/params.py", "slm/stage.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_torch_which_takes_seconds_only_if_it_computes_with_it(stage, runs):
    assert runs[stage].loaded_torch == (stage in NEED_TORCH)


def test_neither_does_the_client_of_the_hub_import_torch():
    code = "import datasets, slm.corpus.hub, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
