"""Each stage declares the code and the libraries that it imports, and DVC reruns what a change can affect."""

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from slm.core.config import PARAMS_FILE, read_yaml
from slm.core.stage import DVC_FILE
from tests.imports import imported_files, imported_libraries, requirements_of_libraries
from tests.pipeline import clone_that_ran, enter, reproduced
from tests.project import ROOT, outputs

STAGES = {name: stage.get("do", stage) for name, stage in read_yaml(ROOT / DVC_FILE)["stages"].items()}
# Code that no stage imports.
UNUSED_CODE = ["slm/serve/api.py", "slm/export/gguf.py"]


@pytest.mark.parametrize("name", STAGES)
def test_declared_dependencies_are_the_import_closure(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    files = imported_files(Path(f"stages/{name}.py"))
    declared = {dep for dep in STAGES[name]["deps"] if dep.startswith(("slm", "storygrammar", "stages"))}
    undeclared = {file for file in files if not {file, *map(str, Path(file).parents)} & declared}
    unused = {dep for dep in declared if not any(Path(file).is_relative_to(dep) for file in files)}
    assert (undeclared, unused) == (set(), set())


@pytest.mark.parametrize("name", STAGES)
def test_declared_requirements_pin_the_imported_libraries(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    requirements, results = requirements_of_libraries(), read_yaml(ROOT / DVC_FILE)["stages"]
    used = {
        file
        for library in imported_libraries(imported_files(Path(f"stages/{name}.py")))
        for file in requirements[library]
    }
    can_change_results = {dep for stage in results.values() for dep in stage.get("do", stage)["deps"]}
    declared = {dep for dep in STAGES[name]["deps"] if dep.startswith("requirements/")}
    assert declared == used & can_change_results


@pytest.fixture(scope="module")
def project_once(tmp_path_factory):
    return clone_that_ran(tmp_path_factory)


@pytest.fixture
def project(project_once, monkeypatch):
    """Enter a clone in which every stage is up to date; tests restore the files they change."""
    enter(project_once, monkeypatch)
    return project_once


@contextmanager
def edited(name, old=None, new=b"# another line\n"):
    """Replace `old` in a file by `new`, or append `new`, and restore the file at the end."""
    path = Path(name)
    before, times = path.read_bytes(), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    after = before + new if old is None else before.replace(old, new)
    assert after != before
    path.write_bytes(after)
    try:
        yield
    finally:
        path.write_bytes(before)
        # With the old times, DVC need not hash the file again.
        os.utime(path, ns=times)


@contextmanager
def edited_param(section, key, value):
    """Give a key of params.yaml another value, and restore the file at the end."""
    before, values = PARAMS_FILE.read_bytes(), read_yaml(PARAMS_FILE)
    values[section][key] = value
    with PARAMS_FILE.open("w", encoding="utf-8") as file:
        YAML().dump(values, file)
    try:
        yield
    finally:
        PARAMS_FILE.write_bytes(before)


def changed_stages():
    """Return the stages with changed inputs, except those that only depend on such a stage."""
    with Repo() as repo:
        status = repo.status()
    written = {out for stage in STAGES.values() for out in outputs(stage)}
    return {stage for stage, changes in status.items() if not only_outputs(changes, written)}


def only_outputs(changes, written):
    """Return whether all changed dependencies are outputs of other stages."""
    deps = {name for change in changes if isinstance(change, dict) for name in change.get("changed deps", {})}
    return bool(deps) and deps <= written


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("slm/train/state.py", {"train"}),
        ("slm/generate/sampling.py", {"sample", "eval_samples"}),
        ("slm/report/page.css", {"plot", "report"}),
        ("slm/eval_samples/copies.py", {"eval_samples"}),
        ("slm/tokenizer/encode.py", {"tokenize", "evaluate", "sample", "eval_samples"}),
        ("storygrammar/prompts/constraints.py", set()),
        *((path, set()) for path in UNUSED_CODE),
    ],
)
def test_edited_file_reruns_dependent_stages(project, path, expected):
    comment = b"/* another line */\n" if path.endswith("css") else b"# another line\n"
    with edited(path, new=comment):
        assert changed_stages() == expected


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("sample", "temperature", 0.5, {"sample", "eval_samples", "report"}),
        ("evaluate", "stride", 3, {"evaluate", "report"}),
        ("train", "learning_rate", 0.5, {"train", "report"}),
    ],
)
def test_edited_param_reruns_declaring_stages(project, section, key, value, expected):
    with edited_param(section, key, value):
        assert changed_stages() == expected


@pytest.mark.parametrize(
    ("pin", "other", "expected"),
    [
        (b"matplotlib==3", b"matplotlib==2", {"plot"}),
        (b"torch==2", b"torch==1", {"train", "evaluate", "sample", "eval_samples"}),
        (b"tiktoken==0", b"tiktoken==1", {"tokenize", "evaluate", "sample", "eval_samples"}),
        (b"pyarrow==2", b"pyarrow==1", {"download"}),
    ],
)
def test_edited_pin_reruns_stages_it_can_affect(project, pin, other, expected):
    path = next(path for path in Path("requirements").iterdir() if pin in path.read_bytes())
    with edited(path, pin, other):
        assert changed_stages() == expected


def test_equal_results_stop_the_rerun(project):
    with edited("slm/train/state.py"):
        assert reproduced() == ["train"]
    reproduced()


def test_editor_and_cache_files_change_nothing(project):
    """Compare the files that DVC ignores with those that Stage.changed_inputs ignores."""
    from slm.core.stage import Stage

    stage = Stage("train")
    names = [
        "slm/train/.optimizer.py.swp",
        "slm/train/state.py~",
        "slm/train/__pycache__/x.pyc",
        "slm/train/.DS_Store",
    ]
    with ExitStack() as files:
        for path in map(Path, names):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")
            files.callback(path.unlink)
        assert stage.changed_inputs() == []
        assert changed_stages() == set()
        extra = Path("slm/train/extra.py")
        extra.write_bytes(b"")
        files.callback(extra.unlink)
        assert stage.changed_inputs() == [str(extra)]
        assert changed_stages() == {"train"}
