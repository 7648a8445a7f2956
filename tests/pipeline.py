"""Run the stages by DVC in a clone of the project."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.cli import main as dvc
from dvc.repo import Repo
from filelock import FileLock
from ruamel.yaml import YAML

from tests.project import clone, commit, git, start_git

STAGES = [
    "check_names",
    "download",
    "tokenize",
    "train",
    "evaluate",
    "sample",
    "eval_samples",
    "plot",
    "report",
]


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a clone the current folder, and run its stages with this Python."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("SLM_PROGRESS", "off")


def reproduced() -> list[str]:
    """Run `dvc repro` and return the names of the stages that ran, in order."""
    with Repo() as repo:
        return [stage.name for stage in repo.reproduce()]


def clone_that_ran(factory: pytest.TempPathFactory) -> Path:
    """Return a clone whose pipeline has run and is committed. The run is shared by all tests."""
    shared = (
        factory.getbasetemp().parent / "ran" if "PYTEST_XDIST_WORKER" in os.environ else factory.mktemp("ran")
    )
    with FileLock(f"{shared}.lock"):
        if not (shared / ".git").exists():
            clone(shared)
            with pytest.MonkeyPatch.context() as patch:
                enter(shared, patch)
                assert reproduced() == STAGES
            commit(shared)
    folder = factory.mktemp("clone")
    git(folder, "clone", "-q", str(shared), ".")
    start_git(folder)
    shutil.copytree(shared / ".dvc/cache", folder / ".dvc/cache")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        with Repo() as repo:
            repo.checkout()
        assert reproduced() == []
    return folder


def start_pipeline(folder: Path, pipeline: dict[str, Any], params: dict[str, Any]) -> None:
    """Make the current folder a repository of git and DVC, run its pipeline and commit the results."""
    for name, values in (("dvc.yaml", pipeline), ("params.yaml", params)):
        with (folder / name).open("w", encoding="utf-8") as file:
            YAML().dump(values, file)
    start_git(folder)
    assert dvc(["init", "-q"]) == 0
    assert dvc(["repro", "-q"]) == 0
    commit(folder)
