"""Training that survives: it goes on from its last state, saves now and then, and stops in good order."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from slm.device import fingerprint
from slm.training.learner import Learner
from slm.training.params import TrainParams
from slm.training.record import Record
from slm.training.schedule import KEYS_OF_THE_END, end_begins
from slm.training.states import State, States
from slm.training.stopping import Stopping


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
    Raises UserError if another process works on this training.
    """
    inputs = {**resume.inputs, "runs on": {**fingerprint(learner.device), **learner.choices()}}
    fork = end_begins(params)
    train = {k: v for k, v in inputs["params"]["train"].items() if not fork or k not in KEYS_OF_THE_END}
    until_fork = {**inputs, "params": {**inputs["params"], "train": train}}

    with States(resume.folder, inputs, until_fork, fork) as states, Stopping() as stopping:
        if state := states.newest():
            learner.restore(state.tensors, state.values)
            record.restore(state.tensors, state.values, learner.device)
            print(f"training: goes on after step {state.step:,} of {params.max_steps:,}", file=sys.stderr)
        saved = record.step

        def before_step() -> None:
            nonlocal saved
            reason = stopping.reason()
            is_due = reason or states.due() or record.step in {fork, params.max_steps}
            if is_due and record.step != saved and _is_sound(learner, record):
                states.save(_state(learner, record))
                saved = record.step
            if reason:
                line = f"{reason} after step {record.step:,}; the state after step {saved:,} is kept"
                raise KeyboardInterrupt(f" {line}")

        yield before_step
        states.keep(1)  # the last, as it has ended


def _state(learner: Learner, record: Record) -> State:
    (tensors, values), (more_tensors, more_values) = learner.state(), record.state()
    return State(record.step, tensors | more_tensors, values | more_values)


def _is_sound(learner: Learner, record: Record) -> bool:
    """Whether training can go on from here: once a weight is no number, it cannot.

    A gradient may be infinite in float16: the scaler skips its step.
    """
    losses = [loss for loss, _ in record.recent]
    numbers = [*losses, *(parameter.detach() for parameter in learner.model.parameters())]
    return bool(torch.stack([tensor.isfinite().all() for tensor in numbers]).all())
