"""Why a training should stop before its end: a signal, or the death of the program that started it.
Training that survives: it goes on from its last state, saves now and then, and stops in good order.

Of several processes the first has the states on its disk; all go on from the same, and stop together.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import psutil
import torch

from slm.core.errors import UserError
from slm.model.device import fingerprint
from slm.train.checkpoints import State, States
from slm.train.distributed import any_rank, from_first, gathered, is_first, say
from slm.train.history import Record
from slm.train.learner import Learner
from slm.train.params import TrainParams
from slm.train.schedule import KEYS_OF_THE_END, end_begins

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
SECONDS_BETWEEN_LOOKS = 1.0


class Stopping:
    """Within this context a first signal is noted, so that the step can end; a second one acts at once.

    Killing dvc leaves its stages running, and so does killing torchrun. A training that went on by itself
    would hold its state, and would write outputs that no one waits for.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._starter = _starter()
        self._next_look = 0.0

    def __enter__(self) -> "Stopping":
        ignored = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN]  # nohup, &
        self._before = {number: signal.getsignal(number) for number in SIGNALS if number not in ignored}
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def reason(self) -> str | None:
        """Why to stop, if there is a reason."""
        if self._signal is not None:
            return f"by {signal.Signals(self._signal).name}"
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
            if self._starter is not None and not _is_alive(self._starter):
                return "because dvc or torchrun, which had started it, is gone"
        return None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self.__exit__()


def _starter() -> psutil.Process | None:
    """The dvc or torchrun that started this stage.

    The nearest process above that has no DVC_STAGE in its environment is dvc: between the two there may be a
    shell. Nothing is between torchrun and its processes.
    """
    with suppress(psutil.Error):
        if "DVC_STAGE" in os.environ:
            for process in psutil.Process().parents():
                if "DVC_STAGE" not in process.environ():
                    return process
        elif "TORCHELASTIC_RUN_ID" in os.environ:
            return psutil.Process().parent()
    return None


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


class Resume(NamedTuple):
    """Where states are kept, and what a training's results depend on beside what it runs on: plain values."""

    folder: Path
    inputs: dict[str, Any]


@contextmanager
def resuming(
    resume: Resume, learner: Learner, record: Record, params: TrainParams
) -> Iterator[Callable[[], None]]:
    """Bring the learner and the record to the last state; give a function to call before each step.

    It saves a state when one is due. If there is a reason to stop it saves one and raises KeyboardInterrupt.
    Raises UserError if another training works on these states, or the processes of this one differ.
    """
    _check_same(gathered(resume.inputs))
    runs_on = gathered({**fingerprint(learner.device), **learner.choices()})
    inputs = {**resume.inputs, "runs on": runs_on}
    fork = end_begins(params)
    train = {k: v for k, v in inputs["params"]["train"].items() if not fork or k not in KEYS_OF_THE_END}
    until_fork = {**inputs, "params": {**inputs["params"], "train": train}}

    own_states = States(resume.folder, inputs, until_fork, fork) if is_first() else nullcontext()
    with own_states as states, Stopping() as stopping:
        if state := _of_first(states.newest() if states else None):
            learner.restore(state.tensors, state.values)
            record.restore(state.tensors, state.values, learner.device)
            say(f"goes on after step {state.step:,} of {params.max_steps:,}")
        saved = record.step

        def before_step() -> None:
            nonlocal saved
            reason = stopping.reason()
            stops, is_due = any_rank(reason is not None, states is not None and states.due())
            is_due = is_due or stops or record.step in {fork, params.max_steps}
            if is_due and record.step != saved and _is_sound(learner, record):
                state = _state(learner, record)
                if states:
                    states.save(state)
                saved = record.step
            if stops:
                why = next(filter(None, gathered(reason)))
                line = f"{why} after step {record.step:,}; the state after step {saved:,} is kept"
                raise KeyboardInterrupt(f" {line}")

        yield before_step
        if states:
            states.keep(1)  # the last, as it has ended


def _state(learner: Learner, record: Record) -> State:
    (tensors, values), (more_tensors, more_values) = learner.state(), record.state()
    return State(record.step, tensors | more_tensors, values | more_values)


def _of_first(state: State | None) -> State | None:
    """The state of the first process, for all."""
    outline = gathered(state and state._replace(tensors={}))[0]
    return outline and outline._replace(tensors=from_first(state.tensors if state else {}))


def _check_same(inputs: list[dict[str, Any]]) -> None:
    """Raise UserError if one of the processes has other params, files or libraries than the first."""
    first = inputs[0]
    for number, others in enumerate(inputs, start=1):
        for kind in [kind for kind in first if others[kind] != first[kind]]:
            names = first[kind].keys() | others[kind].keys()
            differing = [name for name in sorted(names) if others[kind].get(name) != first[kind].get(name)]
            what = f"{kind} than the first: {', '.join(differing)}"
            raise UserError(f"process {number} of {len(inputs)} has other {what}")


def _is_sound(learner: Learner, record: Record) -> bool:
    """Whether training can go on from here: once a weight is no number, it cannot.

    A gradient may be infinite in float16: the scaler skips its step.
    """
    losses = [loss for loss, _ in record.recent]
    numbers = [*losses, *(parameter.detach() for parameter in learner.model.parameters())]
    return bool(torch.stack([tensor.isfinite().all() for tensor in numbers]).all())
