"""An untrusted params file runs no command and deletes no file."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.exceptions import DvcException
from dvc.repo import Repo

from slm.cli.check import check
from slm.core.errors import UserError
from tests.pipeline import enter
from tests.project import ROOT, change_params, clone, git
from tests.tiny import SFT

DATASET = {"file": "data/none", "metric": "bits_per_byte"}
ITEMS = {"sft": SFT, "evaluate.datasets": DATASET}
EXPECTED = "a name must be letters, digits, _ and -, not beginning with -, got"
NAMES = ["x; touch MARKER", "$(touch MARKER)", "-m", "a b", "é"]
# Names that lead to another path inside or outside the project, whose folder is `project`.
PATHS = ["../mine", "x/../../mine", "../data/user", "../slm", "../../project/mine", "../project/slm/mine"]
PATHS += ["../../outside/dvc", "../../../outside/dvc", "/mine", "mine/text", "..", ".", "../models"]
COMMANDS = [
    "repro",
    "repro --force --keep-going",
    "repro --single-item {stage}",
    "repro --downstream train",
    "exp run",
    "exp run --temp",
    "exp run --queue",
    "checkout --force",
]


@pytest.fixture(scope="module")
def project_once(tmp_path_factory):
    return clone(tmp_path_factory.mktemp("parent") / "project")


@pytest.fixture
def project(project_once, monkeypatch):
    """Enter a clone with user files in it and beside it, and check at the end that they still exist."""
    files = [project_once / name for name in ("mine", "data/user", "models/mine", "slm/mine")]
    files += [project_once.parent / "outside/dvc"]
    files = [folder / "text.txt" for folder in files]
    for file in files:
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text("mine")
    enter(project_once, monkeypatch)
    params = Path("params.yaml").read_bytes()
    yield project_once
    Path("params.yaml").write_bytes(params)
    assert [file.read_text() for file in files if file.exists()] == ["mine"] * len(files)
    assert git(project_once, "status", "--porcelain", "slm", "stages").split() == ["??", "slm/mine/"]
    assert not list(project_once.rglob("MARKER"))


def run_dvc(command):
    arguments = [sys.executable, "-m", "dvc", *command.split()]
    return subprocess.run(arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def set_items(key, items):
    section, _, inner = key.partition(".")
    change_params(Path(), {section: {inner: items} if inner else items})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ITEMS)
def test_name_reaches_neither_shell_nor_file_system(project, key, name):
    set_items(key, {name: ITEMS[key]})
    result = run_dvc("repro")
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert lines == [f"error: params.yaml: {key}: {EXPECTED} {name!r}"]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("key", ITEMS)
def test_path_as_name_is_refused_when_dvc_loads_stages(project, key, name):
    set_items(key, {name: ITEMS[key]})
    stage = f"{'sft' if key == 'sft' else 'eval_dataset'}@{name}"
    with pytest.raises(DvcException, match=f"^failed to parse stage '{re.escape(stage)}' in 'dvc.yaml'"):
        Repo().index.stages  # noqa: B018
    with pytest.raises(UserError, match=re.escape(f"params.yaml: {key}: {EXPECTED} {name!r}")):
        check(Path("params.yaml"))


@pytest.mark.parametrize("name", ["../mine", "../project/slm/mine", "../../outside/dvc"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_deletes_files_through_a_name(project, command, name):
    # An earlier run has checked other names.
    Path("data/names_checked").write_text("ok\n")
    set_items("sft", {name: SFT})
    result = run_dvc(command.format(stage=f"sft@{name}"))
    assert result.returncode != 0
    assert f"ERROR: failed to parse stage 'sft@{name}' in 'dvc.yaml'" in result.stderr
    assert "Running stage" not in result.stdout + result.stderr


@pytest.mark.parametrize("name", [".gitignore", "a/."])
def test_name_with_a_leading_dot_deletes_no_file(project, name):
    set_items("sft", {name: SFT})
    for command in ("repro", "exp run", "checkout --force"):
        result = run_dvc(command)
        assert result.returncode != 0
        assert "is ignored by .dvcignore" in result.stderr
        assert Path("models/.gitignore").read_bytes() == (ROOT / "models/.gitignore").read_bytes()


def test_plain_names_work_in_subfolders_and_commits(project, monkeypatch):
    for key, item in ITEMS.items():
        set_items(key, {"plain-name_1": item})
    expected = {"sft@plain-name_1", "eval_sft@plain-name_1", "eval_dataset@plain-name_1"}
    git(project, "commit", "-q", "-m", "Name both", "params.yaml")
    try:
        for folder in (project, project / "docs"):
            monkeypatch.chdir(folder)
            with Repo() as repo:
                assert expected <= {stage.name for stage in repo.index.stages}
                with repo.switch("HEAD"):
                    assert expected <= {stage.name for stage in repo.index.stages}
    finally:
        monkeypatch.chdir(project)
        git(project, "reset", "-q", "HEAD~")


def test_list_of_runs_is_refused(project):
    with Path("params.yaml").open("a", encoding="utf-8") as file:
        file.write("\nkey: ../mine\n")
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("sft: {}", "sft: [{file: data/none}]"))
    assert "sft: [" in Path("params.yaml").read_text()
    for command in ("repro", "exp run"):
        assert "ERROR: failed to parse stage" in run_dvc(command).stderr
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("key: ../mine", "key: other"))
    line = "error: params.yaml: sft: must be a mapping from names to items, got [{...}]"
    assert line in run_dvc("repro").stderr.splitlines()


@pytest.mark.parametrize("stage", ["sft", "eval_sft", "eval_dataset"])
@pytest.mark.parametrize(
    ("arguments", "variable", "line"),
    [
        (["../x"], "", f"params.yaml: {{stage}}: {EXPECTED} '../x'"),
        ([], "{stage}@../x", f"params.yaml: {{stage}}: {EXPECTED} '../x'"),
        ([], "../dvc.yaml:{stage}@a b", f"params.yaml: {{stage}}: {EXPECTED} 'a b'"),
        ([], "{stage}@a:{stage}@b", f"params.yaml: {{stage}}: {EXPECTED} 'a:{{stage}}@b'"),
        ([], "other@a", "usage: python -m stages.{stage} NAME"),
        ([], "", "usage: python -m stages.{stage} NAME"),
        (["a", "b"], "{stage}@a", "usage: python -m stages.{stage} NAME"),
    ],
)
def test_stage_checks_its_name_first(tmp_path, stage, arguments, variable, line):
    result = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", *arguments],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "DVC_STAGE": variable.format(stage=stage)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (1, f"error: {line.format(stage=stage)}\n")
    assert not list(tmp_path.iterdir())


def test_dvc_passes_the_name_from_a_subfolder(project):
    set_items("sft", {"a": SFT})
    # Nothing is trained yet, so the stage gets as far as its inputs.
    result = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "-s", "../dvc.yaml:sft@a"],
        cwd=project / "docs",
        capture_output=True,
        text=True,
    )
    assert "usage:" not in result.stderr
    assert "sft@a" in result.stdout + result.stderr


@pytest.mark.parametrize("items", [{1: SFT}, {1: SFT, "b": SFT}])
def test_name_that_is_a_number_is_reported(project, items):
    set_items("sft", items)
    line = "params.yaml: sft: names must be strings, got 1 (put it in quotes)"
    result = run_dvc("repro")
    assert result.returncode != 0
    # DVC cannot sort keys of two types and fails by itself.
    if len(items) == 1:
        assert f"error: {line}" in result.stderr.splitlines()
    with pytest.raises(UserError) as caught:
        check(Path("params.yaml"))
    assert str(caught.value) == line
