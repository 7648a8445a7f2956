"""A stage reads and writes only what dvc.yaml declares for it.

Each stage runs in a copy of the project in which undeclared files are empty and params.yaml has only the
declared sections. An audit hook records the files that it opens. Native code (Parquet, safetensors) opens
files without the hook, but undeclared ones would be empty.
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
# .slm/ has the log of the stages and the checkpoints of training, which are not results.
HIDDEN = (".git/", ".dvc/", ".slm/")
# Runs a stage and writes the opened files, and whether it imported torch.
RECORD = """
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
    """A run of a stage in its own folder: declared files, contents before and after, opened files."""

    folder: Path
    inputs: set[str]
    outs: list[str]
    before: dict[str, bytes]
    after: dict[str, bytes]
    opened: set[str]
    loaded_torch: bool


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run each stage with only its declared inputs."""
    source, results = tmp_path_factory.mktemp("source"), {}
    for name, text in FILES.items():
        (source / name).write_text(text, encoding="utf-8")
    clone(source, PARAMS)
    for name in STAGES:
        folder, log = tmp_path_factory.mktemp(name), tmp_path_factory.mktemp("log") / "opened.json"
        with chdir(source):
            stage, outs = Stage(name), declared_outs(name)
        inputs = {str(DVC_FILE), str(PARAMS_FILE), *stage.deps}
        copy(source, folder, inputs, outs, stage.params)
        before = files_in(folder)
        command = [sys.executable, "-c", RECORD, str(log), *filter(None, [script(name), stage.item])]
        env = {**os.environ, "SLM_PROGRESS": "off", "PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert result.returncode == 0, f"{name} needs more than it declares:\n{result.stderr}"
        after, (opened, loaded_torch) = files_in(folder), json.loads(log.read_text())
        results[name] = Run(folder, inputs, outs, before, after, project_files(opened), loaded_torch)
        for path in after.keys() - outside(after, outs):
            write(source / path, after[path])
    return results


def copy(source, folder, inputs, outs, params):
    """Copy the project without the outputs of a stage; files that are not its inputs become empty."""
    project = files_in(source)
    # DVC deletes the outputs before it runs a stage.
    for name in outside(project, outs):
        is_kept = name.endswith(".py") or not outside([name], inputs)
        write(folder / name, project[name] if is_kept else b"")
    with (folder / PARAMS_FILE).open("w", encoding="utf-8") as file:
        YAML().dump(params, file)


def declared_outs(name):
    """Return the declared outputs of a stage."""
    definition, values = read_definition(name, read_yaml(PARAMS_FILE))
    return [resolve(out, values) for out in outputs(definition)]


def script(name):
    """Return the name of the script: eval_dataset for eval_dataset@lines."""
    return name.partition("@")[0]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def files_in(folder):
    """Return the content of each file by its path in the folder, without hidden ones."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(HIDDEN)}


def project_files(opened):
    """Return the opened files in the project, without bytecode."""
    skipped = ("..", "__editable__", *HIDDEN)
    return {name for name in opened if not name.startswith(skipped) and "__pycache__" not in name}


def sections(name):
    """Return the sections of params.yaml of which dvc.yaml declares all or a key for a stage."""
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
    """Return the definition of a stage in dvc.yaml."""
    definition = read_yaml(ROOT / DVC_FILE)["stages"][script(name)]
    return definition.get("do", definition)


def outside(names, folders):
    """Return the names that are neither these files nor in these folders."""
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
    assert {str(PARAMS_FILE), f"stages/{script(name)}.py"} <= run.opened, "the audit hook recorded nothing"
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
    pattern = re.compile(r"read_yaml|YAML\(|Params\.load\(|PARAMS_FILE\.|params_show")
    readers = {file for file in files if pattern.search(Path(file).read_text(encoding="utf-8"))}
    assert readers == {"slm/core/config.py", "slm/core/stage.py"}


@pytest.mark.parametrize("name", STAGES)
def test_stage_imports_torch_only_if_needed(name, runs):
    assert runs[name].loaded_torch == (script(name) in NEED_TORCH)


def test_hub_client_does_not_import_torch():
    code = "import datasets, slm.data.hub, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
