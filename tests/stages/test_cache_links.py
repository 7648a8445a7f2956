"""Links to DVC's cache: bins are stored once, and no stage writes through a link."""

from hashlib import md5
from pathlib import Path

import pytest
from dvc.cli import main

from slm.tokenizer.bins import SPLITS, open_bin
from tests.pipeline import STAGES, clone_that_ran, enter
from tests.project import change_params, git, run_stages

TOKENS, CACHE = Path("data/tokens"), Path(".dvc/cache/files/md5")


def dvc(*arguments: str) -> None:
    assert main(list(arguments)) == 0


def digest(path: Path) -> str:
    return md5(path.read_bytes()).hexdigest()


def in_cache(path: Path) -> Path:
    """Return the path of a file's content in the cache."""
    name = digest(path)
    return CACHE / name[:2] / name[2:]


def cached() -> set[Path]:
    """Return all files of the cache, after a check that their names are the hashes of their contents."""
    files = {path for path in CACHE.rglob("*") if path.is_file()}
    assert files
    assert [path for path in files if path.parent.name + path.stem != digest(path)] == []
    return files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a clone whose pipeline has run."""
    return clone_that_ran(tmp_path_factory)


@pytest.fixture
def project(folder, monkeypatch):
    """Enter the clone."""
    enter(folder, monkeypatch)
    return folder


@pytest.mark.parametrize("split", SPLITS)
def test_bin_is_stored_once(project, split):
    path = TOKENS / f"{split}.bin"
    # A hard link or a symbolic link.
    assert path.samefile(in_cache(path))


@pytest.mark.parametrize("split", SPLITS)
def test_open_bin_is_read_only(project, split):
    with pytest.raises(ValueError, match="read-only"):
        open_bin(TOKENS, split)[0] = 0


def test_reruns_never_modify_the_cache(project):
    first, bins = cached(), {path: path.read_bytes() for path in TOKENS.iterdir()}

    change_params(project, {"tokenizer": {"vocab_size": 320}})
    # DVC deletes the outputs, including the bins, before it runs the stage.
    dvc("repro", "--force", "tokenize")
    second = cached()
    assert first < second

    change_params(project, {"tokenizer": {"vocab_size": 340}})
    # Without DVC, the stages overwrite the links.
    run_stages(*STAGES)
    assert cached() == second
    assert not any(path.samefile(in_cache(path)) for path in TOKENS.iterdir() if in_cache(path).exists())

    git(project, "checkout", "-q", ".")
    dvc("checkout", "--force")
    assert cached() == second
    assert {path: path.read_bytes() for path in TOKENS.iterdir()} == bins
