"""A stage reads and writes what dvc.yaml declares for it, and nothing else of the project.

Each stage runs for real in a copy of the project in which the data that it does not declare are empty files
and params.yaml has no other sections, with an eye on every file that it opens. What code of other languages
opens (Parquet's, safetensors') goes unseen, but would be empty.
"""

import ast
import json
import os
import re
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import NamedTuple

import pytest
from ruamel.yaml import YAML

from slm.cli.check import SECTIONS
from slm.core.config import PARAMS_FILE, read_yaml
from slm.core.stage import DVC_FILE, Stage, read_definition, resolve
from tests.imports import imported_files
from tests.project import ROOT, TINY, clone, outputs
from tests.tiny import SFT

STAGES = [
    "check_names",
    "download",
    "tokenize",
    "train",
    "evaluate",
    "eval_dataset@lines",
    "sample",
    "eval_samples",
    "plot",
    "report",
]
STAGES += ["sft@talk", "eval_sft@talk"]
SCRIPTS = [name.partition("@")[0] for name in STAGES]
PAIRS = [{"prompt": f"Is it {n}?", "answer": "It is."} for n in range(99)]
FILES = {
    "lines.txt": "Once there was a duck.\nIt swam.\n" * 9,
    "pairs.jsonl": "".join(json.dumps(pair) + "\n" for pair in PAIRS),
}
PARAMS = {
    **TINY,
    "evaluate": {**TINY["evaluate"], "datasets": {"lines": {"file": "lines.txt", "metric": "bits_per_byte"}}},
    "sft": {"talk": {**SFT, "file": "pairs.jsonl", "tasks": None}, "other": SFT},
}
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
log, script, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(f"stages.{script}", run_name="__main__")
finally:
    open(log, "w").write(json.dumps([opened, "torch" in sys.modules]))
"""
NEED_TORCH = {"train", "evaluate", "eval_dataset", "sample", "eval_samples", "sft", "eval_sft"}


class Run(NamedTuple):
    """A stage's run in a folder of its own: what it may read and must write, and what it opened and wrote."""

    folder: Path
    inputs: set[str]
    outs: list[str]
    before: dict[str, bytes]
    after: dict[str, bytes]
    opened: set[str]
    loaded_torch: bool


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The run of each stage, which saw nothing but what is declared for it."""
    whole, found = tmp_path_factory.mktemp("whole"), {}
    for name, text in FILES.items():
        (whole / name).write_text(text, encoding="utf-8")
    clone(whole, PARAMS)
    for name in STAGES:
        folder, log = tmp_path_factory.mktemp(name), tmp_path_factory.mktemp("log") / "opened.json"
        with chdir(whole):
            stage, outs = Stage(name), declared_outs(name)
        inputs = {str(DVC_FILE), str(PARAMS_FILE), *stage.deps}
        copy(whole, folder, inputs, outs, stage.params)
        before = files_in(folder)
        command = [sys.executable, "-c", WATCHED, str(log), *filter(None, [script(name), stage.item])]
        env = {**os.environ, "SLM_PROGRESS": "off", "PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert result.returncode == 0, f"{name} cannot do with what it declares:\n{result.stderr}"
        after, (opened, loaded_torch) = files_in(folder), json.loads(log.read_text())
        found[name] = Run(folder, inputs, outs, before, after, ours(opened), loaded_torch)
        for path in after.keys() - outside(after, outs):
            write(whole / path, after[path])
    return found


def copy(whole, folder, inputs, outs, params):
    """Copy the project as a stage may see it, without what it will write."""
    project = files_in(whole)
    for name in outside(project, outs):  # DVC has removed those
        is_kept = name.endswith(".py") or not outside([name], inputs)
        write(folder / name, project[name] if is_kept else b"")
    with (folder / PARAMS_FILE).open("w", encoding="utf-8") as file:
        YAML().dump(params, file)


def declared_outs(name):
    """What a stage is to write, with its item's name filled in."""
    declared, values = read_definition(name, read_yaml(PARAMS_FILE))
    return [resolve(out, values) for out in outputs(declared)]


def script(name):
    """The stage whose item it is: eval_dataset, of eval_dataset@lines."""
    return name.partition("@")[0]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def files_in(folder):
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(HIDDEN)}


def ours(opened):
    """Return the opened files that lie in the project, without what Python tries on importing a module."""
    skipped = ("..", "__editable__", *HIDDEN)
    return {name for name in opened if not name.startswith(skipped) and "__pycache__" not in name}


def sections(name):
    """The sections of params.yaml that dvc.yaml declares for a stage, if only a key of them."""
    return {param.partition(".")[0] for param in declared(name).get("params", [])}


def sections_of(stage):
    """Return the sections of params.yaml that a stage reads: X of `stage.load(X)`, or all declared ones."""
    section_of = {section.__name__: section.section for section in SECTIONS}
    tree = ast.parse((ROOT / f"stages/{stage}.py").read_text(encoding="utf-8"))
    if any(ast.unparse(node) == "stage.params" for node in ast.walk(tree)):
        return sections(stage)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {section_of[ast.unparse(c.args[0])] for c in calls if ast.unparse(c.func) == "stage.load"}


def declared(name):
    """What dvc.yaml says of a stage."""
    found = read_yaml(ROOT / DVC_FILE)["stages"][script(name)]
    return found.get("do", found)


def outside(names, folders):
    """The names that are none of these files and lie in none of these folders."""
    allowed = {Path(folder) for folder in folders}
    return {name for name in names if not allowed & {Path(name), *Path(name).parents}}


@pytest.mark.parametrize("name", SCRIPTS)
def test_declared_sections_are_the_loaded_ones(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert sections_of(name) == sections(name)


def test_every_stage_is_tested():
    assert {*SCRIPTS} == read_yaml(ROOT / DVC_FILE)["stages"].keys()


@pytest.mark.parametrize("name", STAGES)
def test_stage_writes_only_its_declared_outputs(name, runs):
    run = runs[name]
    written = {path for path in run.after if run.after[path] != run.before.get(path)}
    assert not outside(written, run.outs), "written and not declared"
    removed = run.before.keys() - run.after.keys()
    assert not removed
    for out in run.outs:
        assert outside(written, [out]) != written, f"{out} is declared and not written"


@pytest.mark.parametrize("name", STAGES)
def test_stage_reads_only_its_declared_inputs(name, runs):
    run = runs[name]
    assert {str(PARAMS_FILE), f"stages/{script(name)}.py"} <= run.opened, "the eye is blind"
    assert not outside(run.opened, {*run.inputs, *run.outs, ".dvcignore"})


@pytest.mark.parametrize("name", STAGES)
def test_undeclared_section_cannot_be_loaded(name, runs, monkeypatch):
    monkeypatch.chdir(runs[name].folder)
    stage = Stage(name)
    for section in SECTIONS:
        if section.section not in sections(name):
            line = f"stage {name} does not declare the params `{section.section}`"
            with pytest.raises(LookupError, match=line):
                stage.load(section)


def test_sft_stage_reads_only_its_own_run(runs):
    for stage in ("sft@talk", "eval_sft@talk"):
        assert read_yaml(runs[stage].folder / PARAMS_FILE)["sft"].keys() == {"talk"}


def test_only_core_modules_read_params_yaml(monkeypatch):
    monkeypatch.chdir(ROOT)
    files = set.union(*(imported_files(Path(f"stages/{name}.py")) for name in SCRIPTS))
    ways = re.compile(r"read_yaml|YAML\(|Params\.load\(|PARAMS_FILE\.|params_show")
    found = {file for file in files if ways.search(Path(file).read_text(encoding="utf-8"))}
    assert found == {"slm/core/config.py", "slm/core/stage.py"}


@pytest.mark.parametrize("name", STAGES)
def test_stage_imports_torch_only_if_needed(name, runs):
    assert runs[name].loaded_torch == (script(name) in NEED_TORCH)


def test_hub_client_does_not_import_torch():
    code = "import datasets, slm.data.hub, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
