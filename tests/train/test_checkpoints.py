"""Tests of CheckpointFolder: which checkpoint is read, ignored or removed."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from slm.core.errors import UserError
from slm.train import checkpoints as module
from slm.train.checkpoints import Checkpoint, CheckpointFolder

INPUTS = {"params": {"max_steps": 20}, "code": "abc"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setenv("SLM_CHECKPOINT_INTERVAL", "0")
    monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.1)


def new_folder(root, inputs=INPUTS, shared_inputs=None, fork=0) -> CheckpointFolder:
    return CheckpointFolder(root, inputs, shared_inputs or inputs, fork)


@contextmanager
def opened(*arguments, **options) -> Iterator[CheckpointFolder]:
    folder = new_folder(*arguments, **options)
    folder.lock()
    try:
        yield folder
    finally:
        folder.unlock()


def checkpoint(step) -> Checkpoint:
    return Checkpoint(step, {"weights": torch.full((3,), float(step))}, {"loss": 1 / 3})


def files(root) -> list[Path]:
    return sorted(root.rglob("*.safetensors"))


def test_latest_returns_last_saved_bitwise(tmp_path):
    with opened(tmp_path) as folder:
        assert folder.latest() is None
        for step in (5, 10):
            folder.save(checkpoint(step))
    with opened(tmp_path) as folder:
        latest = folder.latest()
    assert latest.step == 10
    assert latest.values == {"loss": 1 / 3}
    assert torch.equal(latest.tensors["weights"], torch.full((3,), 10.0))


def test_two_checkpoints_and_last_before_fork_are_kept(tmp_path):
    with opened(tmp_path, fork=12) as folder:
        for step in (5, 10, 15, 20, 25):
            folder.save(checkpoint(step))
    assert [int(path.name[:10]) for path in files(tmp_path)] == [10, 20, 25]


@pytest.mark.parametrize("harm", ["cut short", "a flipped bit", "emptied"])
def test_corrupt_checkpoint_is_ignored(tmp_path, capsys, harm):
    with opened(tmp_path) as folder:
        folder.save(checkpoint(5))
        folder.save(checkpoint(10))
    corrupt = files(tmp_path)[-1]
    data = corrupt.read_bytes()
    flipped = data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]
    corrupt.write_bytes({"cut short": data[:-1], "a flipped bit": flipped, "emptied": b""}[harm])
    with opened(tmp_path) as folder:
        assert folder.latest().step == 5
    line = f"training: ignoring checkpoint {corrupt}: corrupt file (checksum mismatch)\n"
    assert capsys.readouterr().err == line
    assert not corrupt.exists()


def test_checkpoint_of_other_run_is_ignored(tmp_path, capsys):
    with opened(tmp_path, {"code": "other"}) as folder:
        folder.save(checkpoint(10))
        foreign = folder.path.name
    with opened(tmp_path) as folder:
        files(tmp_path)[0].rename(folder.path / files(tmp_path)[0].name)
        assert folder.latest() is None
    assert f"it belongs to another run, {foreign}" in capsys.readouterr().err


def test_file_that_is_not_a_checkpoint_is_ignored(tmp_path, capsys):
    with opened(tmp_path) as folder:
        other = folder.path / "other"
        other.write_bytes(b"neither JSON nor numbers")
        other.rename(folder.path / f"0000000007-{module._digest(other)}.safetensors")
        assert folder.latest() is None
    assert "not a checkpoint" in capsys.readouterr().err


def test_longer_run_resumes_from_shorter_one_before_fork(tmp_path, capsys):
    shared = {"code": "abc"}
    with opened(tmp_path, {"max_steps": 20}, shared, fork=15) as folder:
        for step in (10, 15, 18, 20):
            folder.save(checkpoint(step))
    with opened(tmp_path, {"max_steps": 40}, shared, fork=35) as folder:
        assert folder.latest().step == 15  # 18 and 20 came after the other's fork
    assert "it is past the start of its run's decay phase (step 15)" in capsys.readouterr().err
    with opened(tmp_path, {"max_steps": 12}, shared, fork=12) as folder:
        assert folder.latest() is None  # 15 is beyond this one's fork


def test_own_checkpoint_is_preferred_at_equal_step(tmp_path):
    for inputs in ({"max_steps": 20}, {"max_steps": 40}):
        with opened(tmp_path, inputs, {"code": "abc"}, fork=20) as folder:
            folder.save(Checkpoint(10, {"weights": torch.tensor([float(inputs["max_steps"])])}, {}))
            assert folder.latest().tensors["weights"].item() == inputs["max_steps"]


def test_lock_refuses_second_process_on_same_run_only(tmp_path):
    with opened(tmp_path):
        with pytest.raises(UserError, match="another process is training with the same params: wait for it"):
            new_folder(tmp_path).lock()
        with opened(tmp_path, {"code": "other"}):
            pass
    with opened(tmp_path):
        pass


def test_lock_waits_for_process_about_to_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOCK_TIMEOUT", 10)

    def save() -> None:
        with opened(tmp_path) as second:
            second.save(checkpoint(1))

    with opened(tmp_path):
        second = threading.Thread(target=save)
        second.start()
        second.join(0.3)
        assert files(tmp_path) == []
    second.join()
    assert len(files(tmp_path)) == 1


def test_no_resume_removes_own_checkpoints_and_ignores_others(tmp_path, monkeypatch):
    shared = {"code": "abc"}
    for inputs in ({"max_steps": 20}, {"max_steps": 40}):
        with opened(tmp_path, inputs, shared, fork=20) as folder:
            folder.save(checkpoint(10))
    monkeypatch.setenv("SLM_NO_RESUME", "1")
    with opened(tmp_path, {"max_steps": 40}, shared, fork=40) as folder:
        assert folder.latest() is None
    assert len(files(tmp_path)) == 1


def test_old_runs_are_removed_unless_locked(tmp_path):
    busy = new_folder(tmp_path, {"code": "busy"})
    busy.lock()
    busy.save(checkpoint(1))
    os.utime(files(tmp_path)[0], (0, 0))
    for number in range(7):
        with opened(tmp_path, {"code": number}) as folder:
            folder.save(checkpoint(1))
            os.utime(files(folder.path)[0], (1000 + number,) * 2)
    with opened(tmp_path) as folder:
        kept = {path.name for path in tmp_path.iterdir()} - {folder.path.name}
    names = {new_folder(tmp_path, {"code": number}).path.name for number in range(2, 7)}
    assert kept == names | {busy.path.name}
    busy.unlock()


def test_partial_file_of_killed_process_is_removed(tmp_path):
    with opened(tmp_path) as folder:
        folder.save(checkpoint(5))
        (folder.path / ".checkpoint.tmp").write_bytes(b"half")
    with opened(tmp_path) as folder:
        assert folder.latest().step == 5
        assert [path.name for path in folder.path.iterdir() if path.suffix == ".tmp"] == []


def test_saving_takes_at_most_one_percent_of_time(tmp_path, monkeypatch):
    monkeypatch.delenv("SLM_CHECKPOINT_INTERVAL")
    clock = iter([100.0, 100.0, 101.0, 101.0, 200.9, 201.1])  # created, saved from 100 to 101, two checks
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    folder = new_folder(tmp_path)
    folder.path.mkdir()
    folder.save(checkpoint(1))
    assert not folder.is_due()
    assert folder.is_due()


@pytest.mark.parametrize("value", ["-1", "soon", "nan", "inf"])
def test_wrong_checkpoint_interval_is_refused(tmp_path, monkeypatch, value):
    monkeypatch.setenv("SLM_CHECKPOINT_INTERVAL", value)
    with pytest.raises(UserError, match=f"^SLM_CHECKPOINT_INTERVAL: must be a number .*, got '{value}'"):
        new_folder(tmp_path)
