"""A params file from somebody else is data: it runs no command and deletes no file."""

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
from tests.project import change_params, clone, git
from tests.tiny import SFT

DATASET = {"file": "data/none", "metric": "bits_per_byte"}
EXPECTED = "must be a name of letters, digits, _ and -, in quotes if it looks like a number"
# Names that would be one component of a path: a stage refuses them.
COMPONENTS = ["x; touch MARKER", "$(touch MARKER)", "-m", "a b", "é"]
# Names that lead to another folder: DVC refuses them while it reads dvc.yaml. The clone is `project`.
PATHS = [
    "../mine",
    "x/../../mine",
    "../../outside",
    "../../../parent/outside",
    "../project/mine",
    "../../project/mine",
    "mine/text",
    "/mine",
    "..",
    ".",
]
COMMANDS = [
    "repro",
    "repro --force --keep-going",
    "repro --single-item {stage}",
    "repro --downstream train",
    "exp run",
    "exp run --set-param sample.seed=2",
    "exp run --queue",
    "checkout --force",
]


@pytest.fixture(scope="module")
def project_once(tmp_path_factory):
    return clone(tmp_path_factory.mktemp("parent") / "project")


@pytest.fixture
def project(project_once, monkeypatch):
    """A clone with folders of the user's inside it and beside it."""
    for folder in own_folders(project_once):
        folder.mkdir(exist_ok=True)
        (folder / "text.txt").write_text("mine")
    enter(project_once, monkeypatch)
    params = Path("params.yaml").read_bytes()
    yield project_once
    Path("params.yaml").write_bytes(params)


def own_folders(project):
    """Return the folders of the user's; the last one is where `../project/mine` leads from models/."""
    (project / "project").mkdir(exist_ok=True)
    return [project / "mine", project.parent / "outside", project / "project/mine"]


def run_dvc(*arguments):
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)


def name_item(key, name):
    """Give params.yaml an item of this name, at `sft` or `evaluate.datasets`."""
    section, _, inner = key.partition(".")
    items = {name: SFT if key == "sft" else DATASET}
    change_params(Path(), {section: {inner: items} if inner else items})


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("key", ["sft", "evaluate.datasets"])
def test_name_reaches_neither_shell_nor_file_system(project, key, name):
    name_item(key, name)
    result = run_dvc("repro")
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert lines == [f"error: params.yaml: {key}: {name!r} {EXPECTED}"]
    assert not list(project.parent.rglob("MARKER"))


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("key", ["sft", "evaluate.datasets"])
def test_name_that_leads_to_another_folder_stops_dvc_while_it_reads_dvc_yaml(project, key, name):
    name_item(key, name)
    stage = f"{'sft' if key == 'sft' else 'eval_dataset'}@{name}"
    with pytest.raises(DvcException, match=f"^failed to parse stage '{re.escape(stage)}' in 'dvc.yaml'"):
        Repo().index.stages  # noqa: B018
    with pytest.raises(UserError, match=re.escape(f"params.yaml: {key}: {name!r} {EXPECTED}")):
        check(Path("params.yaml"))


@pytest.mark.parametrize("key", ["sft", "evaluate.datasets"])
def test_empty_name_is_refused_before_anything_runs(project, key):
    name_item(key, "")
    result = run_dvc("repro")
    assert result.returncode != 0
    assert "Running stage" not in result.stdout + result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_no_dvc_command_deletes_what_a_name_leads_to(project, command):
    params = Path("params.yaml").read_bytes()
    for name in ("../mine", "../project/mine", "../../outside"):
        Path("params.yaml").write_bytes(params)
        name_item("sft", name)
        result = run_dvc(*command.format(stage=f"sft@{name}").split())
        assert result.returncode != 0
        assert f"ERROR: failed to parse stage 'sft@{name}' in 'dvc.yaml'" in result.stderr
        assert "Traceback" not in result.stderr
        assert [(folder / "text.txt").read_text() for folder in own_folders(project)] == ["mine"] * 3


def test_name_of_a_hidden_file_of_git_is_refused_before_dvc_deletes_it(project):
    before = Path("models/.gitignore").read_bytes()
    name_item("sft", ".gitignore")
    for command in ("repro", "exp run", "checkout --force"):
        result = run_dvc(*command.split())
        assert result.returncode != 0
        assert "models/.gitignore' is ignored by .dvcignore" in result.stderr
        assert Path("models/.gitignore").read_bytes() == before


def test_plain_names_are_stages_from_every_folder_and_commit(project, monkeypatch):
    name_item("sft", "plain-name_1")
    name_item("evaluate.datasets", "plain-name_1")
    expected = {"sft@plain-name_1", "eval_sft@plain-name_1", "eval_dataset@plain-name_1"}
    git(project, "commit", "-q", "-am", "Name both")
    try:
        for folder in (project, project / "docs"):
            monkeypatch.chdir(folder)
            with Repo() as repo:
                assert expected <= {stage.name for stage in repo.index.stages}
                with repo.switch("HEAD"):
                    assert expected <= {stage.name for stage in repo.index.stages}
    finally:
        git(project, "reset", "-q", "--hard", "HEAD~")


@pytest.mark.parametrize("stage", ["sft", "eval_sft", "eval_dataset"])
def test_stage_checks_its_name_before_it_reads_anything(tmp_path, monkeypatch, stage):
    monkeypatch.chdir(tmp_path)
    for arguments, variables in (([f"{stage}@../x"], {}), ([], {"DVC_STAGE": f"{stage}@../x"})):
        names = [argument.partition("@")[2] for argument in arguments]
        result = subprocess.run(
            [sys.executable, "-m", f"stages.{stage}", *names],
            env={"PYTHONPATH": str(Path(__file__).parents[2]), **variables},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 1
        assert result.stderr.startswith(f"error: params.yaml: {stage}: '../x' must be a name of letters")


def test_check_names_a_key_that_is_a_number(project):
    change_params(project, {"sft": {1: SFT}})
    assert f"params.yaml: sft: 1 {EXPECTED}" in run_dvc("repro").stderr
    with pytest.raises(
        UserError, match=r"^params\.yaml: sft: 1 must be a name .* in quotes if it looks like a"
    ):
        check(Path("params.yaml"))
