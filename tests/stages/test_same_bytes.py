"""Determinism: the same inputs give the same bytes."""

from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.pipeline import STAGES, enter
from tests.project import clone


def contents() -> dict[Path, bytes]:
    paths = [
        Path("dvc.lock"),
        *(path for top in ("data", "models", "reports") for path in Path(top).rglob("*")),
    ]
    return {path: path.read_bytes() for path in paths if path.is_file()}


@pytest.mark.slow
def test_forced_rerun_is_bitwise_identical(tmp_path, monkeypatch):
    enter(clone(tmp_path), monkeypatch)
    monkeypatch.setenv("SLM_NO_RESUME", "1")
    with Repo() as repo:
        repo.reproduce()
        before = contents()
        assert [stage.name for stage in repo.reproduce(force=True)] == STAGES
    assert contents() == before
