"""A params file from somebody else is data: it runs no command and deletes no file."""

import subprocess
import sys
from pathlib import Path

import pytest

from slm.cli.check import check
from slm.core.errors import UserError
from tests.pipeline import enter
from tests.project import change_params, clone
from tests.tiny import SFT

DATASET = {"file": "data/none", "metric": "bits_per_byte"}
EXPECTED = "must be a name of letters, digits, _ and -, in quotes if it looks like a number"
NAMES = [
    "x; touch MARKER",
    "$(touch MARKER)",
    "../mine",
    "x/../../mine",
    "../../outside",
    "-m",
    "a b",
    "é",
    "",
]


@pytest.fixture(scope="module")
def project_once(tmp_path_factory):
    return clone(tmp_path_factory.mktemp("parent") / "project")


@pytest.fixture
def project(project_once, monkeypatch):
    """A clone with a folder of the user's inside it and one beside it."""
    for folder in (project_once / "mine", project_once.parent / "outside"):
        folder.mkdir(exist_ok=True)
        (folder / "text.txt").write_text("mine")
    enter(project_once, monkeypatch)
    params = Path("params.yaml").read_bytes()
    yield project_once
    Path("params.yaml").write_bytes(params)


def repro(*arguments):
    command = [sys.executable, "-m", "dvc", "repro", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", ["sft", "evaluate.datasets"])
def test_name_reaches_neither_shell_nor_file_system(project, key, name):
    section, _, inner = key.partition(".")
    items = {name: SFT if key == "sft" else DATASET}
    change_params(project, {section: {inner: items} if inner else items})
    result = repro()
    assert result.returncode != 0
    lines = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    # DVC itself refuses an empty name.
    assert lines == ([f"error: params.yaml: {key}: {name!r} {EXPECTED}"] if name else [])
    assert not list(project.rglob("MARKER"))
    assert (project / "mine/text.txt").read_text() == "mine"
    assert (project.parent / "outside/text.txt").read_text() == "mine"


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
    assert f"params.yaml: sft: 1 {EXPECTED}" in repro().stderr
    with pytest.raises(
        UserError, match=r"^params\.yaml: sft: 1 must be a name .* in quotes if it looks like a"
    ):
        check(Path("params.yaml"))
