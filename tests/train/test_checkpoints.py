"""States of a training on disk: which one is taken, which are refused, which are dropped."""

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from slm.core.errors import UserError
from slm.train import checkpoints as module
from slm.train.checkpoints import State, States

INPUTS = {"params": {"max_steps": 20}, "code": "abc"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setenv("SLM_CHECKPOINT_INTERVAL", "0")
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.1)


def opened(root, inputs=INPUTS, until_fork=None, fork=0) -> States:
    return States(root, inputs, until_fork or inputs, fork)


def state(step) -> State:
    return State(step, {"weights": torch.full((3,), float(step))}, {"loss": 1 / 3})


def files(root) -> list[Path]:
    return sorted(root.rglob("*.safetensors"))


def test_what_was_saved_last_is_read_back_to_the_last_bit(tmp_path):
    with opened(tmp_path) as states:
        assert states.newest() is None
        for step in (5, 10):
            states.save(state(step))
    with opened(tmp_path) as states:
        newest = states.newest()
    assert newest.step == 10
    assert newest.values == {"loss": 1 / 3}
    assert torch.equal(newest.tensors["weights"], torch.full((3,), 10.0))


def test_two_states_are_kept_and_the_last_before_the_fork(tmp_path):
    with opened(tmp_path, fork=12) as states:
        for step in (5, 10, 15, 20, 25):
            states.save(state(step))
    assert [int(path.name[:10]) for path in files(tmp_path)] == [10, 20, 25]


@pytest.mark.parametrize("harm", ["cut short", "a flipped bit", "emptied"])
def test_a_torn_state_is_named_and_the_one_before_it_used(tmp_path, capsys, harm):
    with opened(tmp_path) as states:
        states.save(state(5))
        states.save(state(10))
    torn = files(tmp_path)[-1]
    data = torn.read_bytes()
    flipped = data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]
    torn.write_bytes({"cut short": data[:-1], "a flipped bit": flipped, "emptied": b""}[harm])
    with opened(tmp_path) as states:
        assert states.newest().step == 5
    line = f"training: {torn} is not used: it is torn, its bytes are not those that were written\n"
    assert capsys.readouterr().err == line
    assert not torn.exists()


def test_a_state_of_another_training_is_refused(tmp_path, capsys):
    with opened(tmp_path, {"code": "other"}) as states:
        states.save(state(10))
        foreign = states.folder.name
    with opened(tmp_path) as states:
        files(tmp_path)[0].rename(states.folder / files(tmp_path)[0].name)
        assert states.newest() is None
    assert f"is not used: it belongs to another training, {foreign}" in capsys.readouterr().err


def test_what_is_no_state_is_refused(tmp_path, capsys):
    with opened(tmp_path) as states:
        other = states.folder / "other"
        other.write_bytes(b"neither JSON nor numbers")
        other.rename(states.folder / f"0000000007-{module._digest_of(other)}.safetensors")
        assert states.newest() is None
    assert "is not used: it is not a state of a training" in capsys.readouterr().err


def test_a_longer_training_goes_on_from_a_shorter_one_until_the_fork(tmp_path, capsys):
    shared = {"code": "abc"}
    with opened(tmp_path, {"max_steps": 20}, shared, fork=15) as states:
        for step in (10, 15, 18, 20):
            states.save(state(step))
    with opened(tmp_path, {"max_steps": 40}, shared, fork=35) as states:
        assert states.newest().step == 15  # 18 and 20 came after the other's fork
    assert "the learning rate was falling since step 15" in capsys.readouterr().err
    with opened(tmp_path, {"max_steps": 12}, shared, fork=12) as states:
        assert states.newest() is None  # 15 is beyond this one's fork


def test_an_own_state_is_preferred_to_an_equal_one_of_another_training(tmp_path):
    for inputs in ({"max_steps": 20}, {"max_steps": 40}):
        with opened(tmp_path, inputs, {"code": "abc"}, fork=20) as states:
            states.save(State(10, {"weights": torch.tensor([float(inputs["max_steps"])])}, {}))
            assert states.newest().tensors["weights"].item() == inputs["max_steps"]


def test_a_second_process_on_the_same_training_is_turned_away_and_another_training_is_not(tmp_path):
    with opened(tmp_path):
        with pytest.raises(UserError, match="another process is training with the same params: wait for it"):
            opened(tmp_path).__enter__()
        with opened(tmp_path, {"code": "other"}):
            pass
    with opened(tmp_path):
        pass


def test_a_process_waits_for_one_that_is_about_to_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WAIT_SECONDS", 10)

    def save() -> None:
        with opened(tmp_path) as second:
            second.save(state(1))

    with opened(tmp_path):
        second = threading.Thread(target=save)
        second.start()
        second.join(0.3)
        assert files(tmp_path) == []
    second.join()
    assert len(files(tmp_path)) == 1


def test_starting_fresh_drops_the_states_of_this_training_and_looks_at_no_other(tmp_path, monkeypatch):
    shared = {"code": "abc"}
    for inputs in ({"max_steps": 20}, {"max_steps": 40}):
        with opened(tmp_path, inputs, shared, fork=20) as states:
            states.save(state(10))
    monkeypatch.setenv("SLM_NO_RESUME", "1")
    with opened(tmp_path, {"max_steps": 40}, shared, fork=40) as states:
        assert states.newest() is None
    assert len(files(tmp_path)) == 1


def test_states_of_old_trainings_are_dropped_unless_one_is_at_work(tmp_path):
    busy = opened(tmp_path, {"code": "busy"}).__enter__()
    busy.save(state(1))
    os.utime(files(tmp_path)[0], (0, 0))
    for number in range(7):
        with opened(tmp_path, {"code": number}) as states:
            states.save(state(1))
            os.utime(files(states.folder)[0], (1000 + number,) * 2)
    with opened(tmp_path) as states:
        kept = {path.name for path in tmp_path.iterdir()} - {states.folder.name}
    names = {opened(tmp_path, {"code": number}).folder.name for number in range(2, 7)}
    assert kept == names | {busy.folder.name}
    busy.__exit__()


def test_what_a_killed_process_left_half_written_is_dropped(tmp_path):
    with opened(tmp_path) as states:
        states.save(state(5))
        (states.folder / ".state.tmp").write_bytes(b"half")
    with opened(tmp_path) as states:
        assert states.newest().step == 5
        assert [path.name for path in states.folder.iterdir() if path.suffix == ".tmp"] == []


def test_saving_takes_one_percent_of_the_time_at_most(tmp_path, monkeypatch):
    monkeypatch.delenv("SLM_CHECKPOINT_INTERVAL")
    clock = iter([100.0, 100.0, 101.0, 101.0, 200.9, 201.1])  # opened, saved from 100 to 101, two looks
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    states = opened(tmp_path)
    states.folder.mkdir()
    states.save(state(1))
    assert not states.due()
    assert states.due()


@pytest.mark.parametrize("value", ["-1", "soon", "nan", "inf"])
def test_a_wrong_number_of_seconds_is_named(tmp_path, monkeypatch, value):
    monkeypatch.setenv("SLM_CHECKPOINT_INTERVAL", value)
    with pytest.raises(UserError, match=f"^SLM_CHECKPOINT_INTERVAL: must be a number .*, got '{value}'"):
        opened(tmp_path)
