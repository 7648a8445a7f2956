"""The six stages, run by DVC in a clone of the project."""

import os
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.project import clone, commit

STAGES = ["download", "tokenize", "train", "evaluate", "sample", "plot"]


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a clone the current folder, with this Python for its stages."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("SLM_PROGRESS", "off")


def reproduced() -> list[str]:
    """Names of the stages that `dvc repro` runs, in order."""
    with Repo() as repo:
        return [stage.name for stage in repo.reproduce()]


def clone_that_ran(folder: Path) -> Path:
    """A clone whose pipeline ran once and was committed."""
    clone(folder)
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        assert reproduced() == STAGES
    commit(folder)
    return folder
