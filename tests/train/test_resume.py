"""Tests of resuming: an interrupted run ends with the bytes of an uninterrupted one."""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file

from slm.core.errors import Interrupted, UserError
from slm.core.files import write_rows
from slm.results.train import TrainPoint, ValidationPoint
from slm.train.checkpoints import RunInputs
from slm.train.trainer import train
from tests import kill_training
from tests.kill_training import DVC, STAGE, copy, digests, last_step, run, run_killed
from tests.project import commit
from tests.tiny import TRAIN as TRAIN_VALUES
from tests.tiny import model_params, train_params
from tests.train.test_trainer import VOCAB, windows


@pytest.fixture(autouse=True)
def saves_at_every_step(monkeypatch):
    monkeypatch.setenv("SLM_CHECKPOINT_INTERVAL", "0")


def trained(out: Path, root: Path, dropout: float = 0.1, **changes):
    """Train with states below `root`; the result, after all its files were written to `out`."""
    inputs = {"params": {"train": {**TRAIN_VALUES, **changes}, "model": {"dropout": dropout}}}
    run_inputs = RunInputs(root, inputs)
    params = train_params(**changes)
    result = train(model_params(dropout=dropout), params, windows(params), VOCAB, out, run_inputs)
    write_rows(out / "train.csv", TrainPoint, result.train_curve)
    write_rows(out / "val.csv", ValidationPoint, result.val_curve)
    facts = result.metrics.model_dump() | result.summary.model_dump()
    (out / "train.json").write_text(json.dumps(facts))
    return result


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@contextmanager
def signal_after(step: int, root: Path, number: int) -> Iterator[None]:
    """Send this process a signal when a state of that step or a later one lies below `root`."""

    def watch() -> None:
        while not ended.wait(0.001):
            if last_step(root) >= step:
                signal.raise_signal(number)
                return

    ended = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


HARD = {"max_steps": 120, "eval_interval": 7, "grad_accum_steps": 2, "patience": 100}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_resume_after_signals_is_bitwise_identical(tmp_path, dtype):
    trained(tmp_path / "whole", tmp_path / "states of whole", **HARD, dtype=dtype)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for step, number in (
        (3, signal.SIGTERM),
        (24, signal.SIGINT),
        (51, signal.SIGTERM),
        (97, signal.SIGTERM),
    ):
        with (
            pytest.raises(
                Interrupted, match=rf"^interrupted \({number.name}\) at step .*; checkpoint saved at step"
            ),
            signal_after(step, tmp_path / "states", number),
        ):
            trained(tmp_path / "parts", tmp_path / "states", **HARD, dtype=dtype)
        assert not (tmp_path / "parts").exists()
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert trained(tmp_path / "parts", tmp_path / "states", **HARD, dtype=dtype).measured["first_step"] >= 97
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_resume_after_corrupt_checkpoint_is_bitwise_identical(tmp_path, capsys):
    trained(tmp_path / "whole", tmp_path / "other states", **HARD)
    with pytest.raises(KeyboardInterrupt), signal_after(50, tmp_path / "states", signal.SIGINT):
        trained(tmp_path / "again", tmp_path / "states", **HARD)
    before, newest = sorted((tmp_path / "states").glob("*/*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-1])
    result = trained(tmp_path / "again", tmp_path / "states", **HARD)
    assert result.measured["first_step"] == int(before.name[:10]) >= 49
    assert "corrupt file (checksum mismatch)" in capsys.readouterr().err
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")


def test_finished_run_repeats_without_steps(tmp_path, monkeypatch):
    for name in ("a", "b"):
        result = trained(tmp_path / name, tmp_path / "states")
    assert result.measured["first_step"] == 20
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    monkeypatch.setenv("SLM_NO_RESUME", "1")
    assert trained(tmp_path / "c", tmp_path / "states").measured["first_step"] == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "c")


@pytest.mark.parametrize(
    ("schedule", "decay_steps", "first_step"), [("wsd", 0, 20), ("wsd", 6, 14), ("cosine", 0, 0)]
)
def test_longer_wsd_run_extends_finished_one(tmp_path, schedule, decay_steps, first_step):
    changes = {"schedule": schedule, "decay_steps": decay_steps, "eval_interval": 8}
    trained(tmp_path / "short", tmp_path / "states", **changes)
    longer = trained(tmp_path / "longer", tmp_path / "states", **changes, max_steps=45)
    assert longer.measured["first_step"] == first_step
    trained(tmp_path / "at once", tmp_path / "other states", **changes, max_steps=45)
    assert contents(tmp_path / "longer") == contents(tmp_path / "at once")


@pytest.mark.parametrize("change", [{"seed": 2}, {"learning_rate": 0.02}, {"eval_tokens": 100}])
def test_other_params_start_from_scratch(tmp_path, change):
    trained(tmp_path / "a", tmp_path / "states")
    assert trained(tmp_path / "b", tmp_path / "states", **change).measured["first_step"] == 0


def test_other_inputs_or_threads_start_from_scratch(tmp_path, monkeypatch):
    def first_step(inputs) -> int:
        short = {"max_steps": 3}  # more threads than cores wait for each other
        run_inputs = RunInputs(
            tmp_path / "states", {"params": {"train": {**TRAIN_VALUES, **short}}, **inputs}
        )
        params = train_params(**short)
        result = train(model_params(), params, windows(params), VOCAB, tmp_path / "out", run_inputs)
        return result.measured["first_step"]

    assert [first_step({"files": "a"}), first_step({"files": "a"}), first_step({"files": "b"})] == [0, 3, 0]
    monkeypatch.setenv("SLM_THREADS", str(torch.get_num_threads() + 1))
    before = torch.get_num_threads()
    try:
        assert first_step({"files": "a"}) == 0
    finally:
        torch.set_num_threads(before)


def test_nan_loss_keeps_last_finite_checkpoint(tmp_path):
    blows_up = {"learning_rate": 10.0, "min_lr": 10.0, "warmup_steps": 0, "weight_decay": 1e30}
    with pytest.raises(UserError, match="the training loss is nan"):
        trained(tmp_path / "out", tmp_path / "states", **blows_up, eval_interval=200)
    tensors = [load_file(path) for path in (tmp_path / "states").glob("*/*.safetensors")]
    assert tensors
    assert all(weight.isfinite().all() for state in tensors for weight in state.values())
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose tokens are ready."""
    return kill_training.project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def whole(project, tmp_path_factory):
    """A project that trained at one go, and the digests of what that left."""
    folder = copy(project, tmp_path_factory.mktemp("whole"))
    result = run(folder, *DVC, SLM_CHECKPOINT_INTERVAL="1000")
    assert result.returncode == 0, result.stderr
    return digests(folder), (folder / "dvc.lock").read_text()


@pytest.mark.parametrize(
    "command", [STAGE, pytest.param(DVC, marks=pytest.mark.slow)], ids=["the stage", "dvc"]
)
def test_resume_after_sigkill_is_bitwise_identical(tmp_path, project, whole, command):
    folder, random = copy(project, tmp_path), Random(len(command))
    steps = [run_killed(folder, command, signal.SIGKILL, random) for _ in range(2)]
    assert 0 < steps[0] < steps[1] < kill_training.LONG["train"]["max_steps"]
    result = run(folder, *DVC)
    assert result.returncode == 0, result.stderr
    assert f"resuming from step {steps[-1]:,}/600" in result.stderr
    assert (digests(folder), (folder / "dvc.lock").read_text()) == whole
    log = [json.loads(line) for line in (folder / ".slm/log.jsonl").read_text().splitlines()]
    assert (log[-1]["stage"], log[-1]["result"], log[-1]["first_step"]) == ("train", "done", steps[-1])


def test_second_process_on_same_run_fails_with_a_line(tmp_path, project, whole):
    folder = copy(project, tmp_path)
    first = subprocess.Popen(STAGE, cwd=folder, env=kill_training.environment_of(), stderr=subprocess.DEVNULL)
    try:
        while not last_step(folder / ".slm/checkpoints"):
            time.sleep(0.01)
        first.send_signal(signal.SIGSTOP)
        second = run(folder, *STAGE)
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.returncode == 1
    assert "error: another process is training with the same params" in second.stderr
    assert first.wait(60) == 0
    assert digests(folder) == whole[0]


@pytest.mark.slow
def test_parallel_queued_experiments_have_own_checkpoints(tmp_path, project):
    folder = copy(project, tmp_path)
    commit(folder)
    dvc = DVC[:3]
    run(folder, *dvc, "exp", "run", "--queue", "-S", "train.seed=5,6")
    run(folder, *dvc, "queue", "start", "-j", "2")
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        status = run(folder, *dvc, "queue", "status").stdout
        if "Queued" not in status and "Running" not in status:
            break
        time.sleep(2)
    assert status.count("Success") == 2, status
    entries = [json.loads(line) for line in (folder / ".slm/log.jsonl").read_text().splitlines()]
    trained = [entry for entry in entries if entry["stage"] == "train"]
    assert [(entry["result"], entry["first_step"], entry["last_step"]) for entry in trained] == [
        ("done", 0, 600)
    ] * 2
    assert len({entry["experiment"] for entry in trained}) == 2
    assert len(list((folder / ".slm/checkpoints").iterdir())) == 2
