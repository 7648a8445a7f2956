"""Tests of training on several ranks."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slm.core.errors import UserError
from slm.model.device import _device
from slm.model.gpt import load_model
from slm.train import distributed
from slm.train.checkpoints import check_same_inputs
from slm.train.distributed import (
    _free_port,
    all_gather,
    all_reduce_sum,
    any_rank,
    broadcast_tensors,
    choose_world_size,
    process_group,
    shard,
)
from tests import kill_training
from tests.kill_training import DVC, STAGE, copy, descendants, digests, last_step, run
from tests.project import ROOT, change_params
from tests.two_ranks import CASES, trained


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes found, which trained side by side."""
    folder = tmp_path_factory.mktemp("side by side")
    command = (sys.executable, "-m", "tests.two_ranks")
    result = run(folder, *command, SLM_PROCESSES="2", SLM_DEVICE="cpu", PYTHONPATH=str(ROOT))
    assert (result.returncode, result.stderr.count("training:")) == (0, len(CASES)), result.stderr
    return json.loads((folder / "found.json").read_text()), folder


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_match_one(found, case, tmp_path, monkeypatch):
    values, folder = found
    monkeypatch.chdir(tmp_path)
    alone = trained(case)
    losses, norms, evals = values[case][0]
    assert values[case][1] == [losses, norms, evals]
    assert losses == pytest.approx([point.train_loss for point in alone.train_curve], abs=1e-4)
    assert norms == pytest.approx([point.grad_norm for point in alone.train_curve], rel=1e-2)
    assert evals == pytest.approx([point.val_loss for point in alone.val_curve], abs=1e-4)
    assert evals[-1] < evals[0] - 0.3
    ours = load_model(folder / case).state_dict()
    for name, weight in load_model(Path(case)).state_dict().items():
        torch.testing.assert_close(ours[name], weight, atol=2e-3, rtol=0, msg=name)


def test_ranks_share_weights_and_have_own_rng(found):
    values, _ = found
    assert len(values["weights"]) == len(values["random"]) == 2
    assert values["weights"][0] == values["weights"][1]
    assert values["random"][0] != values["random"][1]


def test_broadcast_sends_tensors_of_rank0(found):
    assert found[0]["sent"] == [{"a": [[7.0] * 3] * 2}] * 2


def test_single_process_needs_no_process_group():
    tensors = {"a": torch.ones(2)}
    all_reduce_sum([tensors["a"]])
    assert tensors["a"].tolist() == [1, 1]
    assert broadcast_tensors(tensors) is tensors
    assert (any_rank(True, False), all_gather("a")) == ([True, False], ["a"])
    assert not torch.distributed.is_initialized()


@given(n_rows=st.integers(0, 50), n=st.integers(1, 9))
def test_shards_cover_all_sequences_evenly(n_rows, n):
    rows, shares = np.arange(n_rows), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "world_size", lambda: n)
        for i in range(n):
            patch.setattr(distributed, "rank", lambda i=i: i)
            shares.append(shard(rows))
    assert np.concatenate(shares).tolist() == rows.tolist()
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("asked", "n_rows", "n_gpus", "n"),
    [
        (None, 64, 8, 8),
        (None, 64, 1, 1),
        (None, 8, 6, 4),  # two rows each; with 6, two of them would have two rows as well
        (None, 7, 6, 1),
        ("2", 64, 8, 2),
        ("1", 7, 8, 1),
    ],
)
def test_world_size_divides_sequences(monkeypatch, asked, n_rows, n_gpus, n):
    monkeypatch.delenv("SLM_PROCESSES", raising=False)
    if asked is not None:
        monkeypatch.setenv("SLM_PROCESSES", asked)
    assert choose_world_size(n_rows, default=n_gpus, maximum=n_gpus) == n


@pytest.mark.parametrize("asked", ["x", "", "0", "-1", "1.0", "3", "8", "02", "99999"])
def test_wrong_slm_processes_is_refused_with_choices(monkeypatch, asked):
    monkeypatch.setenv("SLM_PROCESSES", asked)
    line = r"must be one of 1, 2, 4, which divide train\.batch_size × train\.grad_accum_steps = 8"
    with pytest.raises(UserError, match=f"^SLM_PROCESSES: {line}, got {asked!r}$"):
        choose_world_size(8, default=1, maximum=6)


def test_torchrun_world_size_must_divide_sequences(monkeypatch):
    for name, value in {"SLM_DEVICE": "cpu", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    line = r"^train\.batch_size × train\.grad_accum_steps: must be a multiple of 3"
    with pytest.raises(UserError, match=line), process_group(8, "unused"):
        pass


@pytest.mark.parametrize(
    ("name", "local_rank", "device"),
    [
        ("auto", None, "cuda"),
        ("auto", "1", "cuda:1"),
        ("cuda", "0", "cuda:0"),
        ("cuda:1", "0", "cuda:1"),
        ("cpu", "1", "cpu"),
    ],
)
def test_each_rank_has_its_own_gpu(name, local_rank, device):
    assert _device(name, n_cuda=2, local_rank=local_rank) == torch.device(device)


def test_more_ranks_than_gpus_are_refused():
    with pytest.raises(UserError, match=r"cuda:0, cuda:1, cpu on this machine, got 'cuda:2'$"):
        _device("auto", n_cuda=2, local_rank="2")


def test_rank_with_other_inputs_is_refused():
    inputs = {"params": {"train": {"seed": 1}}, "files": {"a.py": "1", "b.py": "2"}, "versions": {}}
    check_same_inputs([inputs, dict(inputs)])
    with pytest.raises(UserError, match=r"^rank 1: files differ from rank 0: b\.py, c\.py$"):
        check_same_inputs([inputs, {**inputs, "files": {"a.py": "1", "c.py": "3"}}])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose tokens are ready."""
    return kill_training.project(tmp_path_factory.mktemp("project"), max_steps=200)


@pytest.fixture
def two(monkeypatch):
    monkeypatch.setenv("SLM_PROCESSES", "2")
    monkeypatch.setenv("SLM_DEVICE", "cpu")


def endless(project: Path, folder: Path) -> Path:
    copy(project, folder)
    change_params(folder, {"train": {"max_steps": 10**6}})
    return folder


def started(folder: Path, *command: str) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """A command whose training has come further than before, and the processes below it."""
    states = folder / ".slm/checkpoints"
    before = last_step(states)
    process = subprocess.Popen(
        command, cwd=folder, env=kill_training.environment_of(), stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and last_step(states) == before:
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()[1]
    return process, descendants(process.pid)


def test_two_rank_resume_is_bitwise_identical(project, tmp_path, two):
    whole, folder = (copy(project, tmp_path / name) for name in ("whole", "parts"))
    assert run(whole, *STAGE, SLM_CHECKPOINT_INTERVAL="1000").returncode == 0
    for number, status in ((signal.SIGTERM, 130), (signal.SIGKILL, -9)):
        process, others = started(folder, *STAGE)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == status
        assert not psutil.wait_procs(others, timeout=30)[1], "an orphan is still training"
        assert said.count("interrupted (SIGTERM) at step") == (number == signal.SIGTERM)
    step = last_step(folder / ".slm/checkpoints")
    result = run(folder, *STAGE)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count(f"training: resuming from step {step:,}/200\n") == 1
    assert digests(folder) == digests(whole)
    log = [json.loads(line) for line in (folder / ".slm/log.jsonl").read_text().splitlines()]
    trained = [entry for entry in log if entry["stage"] == "train"]
    assert [entry["result"] for entry in trained] == ["interrupted", "done"]
    assert (trained[-1]["first_step"], trained[-1]["processes"]) == (step, 2)


def test_killed_rank_fails_the_run(project, tmp_path, two):
    process, (other,) = started(endless(project, tmp_path / "project"), *STAGE)
    other.kill()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "training: rank 1 was ended by signal 9" in said
    assert [line.startswith("error: ") for line in said.splitlines()].count(True) == 1
    assert "error: lost connection to another rank: " in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["second", "dvc", "dvc, at once"])
def test_signal_to_any_process_stops_all_ranks(project, tmp_path, two, whom):
    folder = endless(project, tmp_path / "project")
    process, below = started(folder, *(STAGE if whom == "second" else DVC))
    if whom == "second":
        below[-1].terminate()
    else:
        process.send_signal(signal.SIGTERM if whom == "dvc" else signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not psutil.wait_procs(below, timeout=30)[1]
    assert json.loads((folder / ".slm/log.jsonl").read_text().splitlines()[-1])["result"] == "interrupted"


@pytest.mark.slow
def test_torchrun_nodes_match_one_machine(project, tmp_path, two):
    folders = [copy(project, tmp_path / name) for name in ("a", "b")]
    torchrun = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    torchrun += ["--master-addr", "localhost", "--master-port", str(_free_port())]
    machines = [
        subprocess.Popen(
            [sys.executable, *torchrun, "--node-rank", str(i), "-m", "stages.train"],
            cwd=folder,
            env=kill_training.environment_of(),
        )
        for i, folder in enumerate(folders)
    ]
    assert [machine.wait(120) for machine in machines] == [0, 0]
    assert not (folders[1] / "models/model.safetensors").exists()
    here = copy(project, tmp_path / "here")
    assert run(here, *STAGE).returncode == 0
    assert digests(folders[0]) == digests(here)
    assert run(folders[0], *DVC[:3], "commit", "-f", "train").returncode == 0
    assert "up to date" in run(folders[0], *DVC).stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signal_to_torchrun_saves_checkpoint(project, tmp_path, two, number):
    folder = endless(project, tmp_path / "project")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process, below = started(folder, sys.executable, *torchrun, "-m", "stages.train")
    process.send_signal(number)
    assert process.wait(60) != 0
    assert not psutil.wait_procs(below, timeout=30)[1]
    assert json.loads((folder / ".slm/log.jsonl").read_text().splitlines()[-1])["result"] == "interrupted"
