"""Training that survives: it goes on from its last state, saves now and then, and stops in good order.

Of several processes the first has the states on its disk; all go on from the same, and stop together.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch

from slm.device import fingerprint
from slm.params import UserError
from slm.training.learner import Learner
from slm.training.parallel import any_rank, from_first, gathered, is_first, say
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
