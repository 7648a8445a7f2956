"""One run of a race: train a model against the clock, and look at its validation loss now and then.

Shapes: B sequences, T tokens in each, V = vocab_size.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers import Peer, Shape, nanogpt_batch, nanogpt_rate, synchronize, update
from slm.core.progress import Progress
from slm.model.gpt import count_params, cross_entropy
from slm.model.params import ModelParams
from slm.tokenizer.bins import open_bin, read_meta
from slm.train.data import training_batch
from slm.train.params import TrainParams, learning_rate, n_chunks
from slm.train.state import TrainState

SIDES = {"ours": "this project", "nanogpt": "nanoGPT", "transformers": "GPT-2 of transformers"}
LAYERS, HEADS, WIDTH, CONTEXT = 4, 4, 128, 256  # of the other sides' models; the context is everyone's
LOOKS = 30  # at the validation split, in the time of the race
TRIAL_STEPS = 8


@dataclass(frozen=True)
class Race:
    """What all runs have in common; `conditions` says so in words, and only equal ones can be compared."""

    conditions: str
    tokens: Path  # the folder with the bins
    params: Path
    nanogpt: Path | None
    seconds: float
    batch_size: int  # of the other sides
    beta2: float  # of the other sides
    validation_tokens: int


@dataclass(frozen=True)
class Run:
    """A run and what became of it; `curve` has pairs of seconds of training and validation loss."""

    side: str
    name: str  # of the side with its recipe
    seed: int
    rate: float  # the highest learning rate
    compiled: bool
    conditions: str
    dtype: str = ""
    parameters: int = 0
    tokens: int = 0  # trained on
    curve: tuple[tuple[float, float], ...] = ()

    @property
    def seconds(self) -> float:
        return self.curve[-1][0]

    @property
    def loss(self) -> float:
        return self.curve[-1][1]

    def seconds_to(self, target: float) -> float | None:
        """When a loss was first reached, on straight lines between the points; None if it never was."""
        for i, (seconds, loss) in enumerate(self.curve):
            if loss <= target:
                if i == 0:
                    return seconds
                before, higher = self.curve[i - 1]
                return before + (seconds - before) * (higher - target) / (higher - loss)
        return None


class Clock:
    """Counts seconds of training; it stands still while a loss is measured."""

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self._now = now
        self._start = now()

    @property
    def seconds(self) -> float:
        return self._now() - self._start

    @contextmanager
    def stopped(self) -> Iterator[None]:
        before = self._now()
        yield
        self._start += self._now() - before


class FittedRate:
    """nanoGPT's learning rate over as many steps as the time has room for, by the speed so far."""

    def __init__(self, highest: float, seconds: float, step_seconds: float):
        self.highest, self.seconds, self.step_seconds = highest, seconds, step_seconds
        self.first = 0.0  # seconds of the first step, in which the model is compiled

    def __call__(self, step: int, elapsed: float) -> float:
        """The learning rate of a step (counted from 0) that begins when so many seconds have passed."""
        if step == 1:
            self.first = elapsed
        if step > TRIAL_STEPS:  # before, the speed is the trial's
            self.step_seconds = (elapsed - self.first) / (step - 1)
        return nanogpt_rate(step, step + (self.seconds - elapsed) / self.step_seconds, self.highest)


def enter(run: Run, race: Race) -> tuple[TrainState | Peer, Callable[[int], tuple[Tensor, Tensor]]]:
    """A new model with its way of training, and its batch of each step."""
    train, vocab_size = open_bin(race.tokens, "train"), read_meta(race.tokens).vocab_size
    if run.side != "ours":
        shape = Shape(LAYERS, HEADS, WIDTH, CONTEXT, vocab_size)
        peer = Peer(run.side, shape, race.nanogpt, run.compiled, beta2=race.beta2)
        return peer, lambda step: nanogpt_batch(train, CONTEXT, race.batch_size)
    params = TrainParams.load(race.params).model_copy(update={"seed": run.seed, "compile": run.compiled})
    state = TrainState(ModelParams.load(race.params), params, vocab_size)
    rows = params.batch_size * params.grad_accum_steps
    return state, lambda step: training_batch(train, CONTEXT, rows, run.seed, step, n_chunks(step, params))


def trial(run: Run, race: Race) -> tuple[float, float]:
    """Seconds of the first step, in which the model is compiled, and of a later one."""
    side, batch = enter(run, race)
    seconds = []
    for step in range(2 + TRIAL_STEPS):
        start = time.perf_counter()
        update(side, batch(step), lr=1e-4)
        synchronize(side.device)
        seconds.append(time.perf_counter() - start)
    return seconds[0], median(seconds[2:])


@torch.no_grad()
def validation_loss(side: TrainState | Peer, tokens: np.ndarray, n_tokens: int) -> float:
    """Mean loss in nats of the first tokens, in windows of CONTEXT, one after the other; in float32."""
    side.model.eval()
    logits = side.logits if isinstance(side, Peer) else side.model
    n_windows = max(1, min(n_tokens, len(tokens) - 1) // CONTEXT)
    ids = torch.from_numpy(tokens[: n_windows * CONTEXT + 1].astype(np.int64)).to(side.device)
    parts = (part.view(-1, CONTEXT).split(16) for part in (ids[:-1], ids[1:]))
    sums = [
        cross_entropy(logits(inputs), targets, "sum").item() for inputs, targets in zip(*parts, strict=True)
    ]
    return sum(sums) / (n_windows * CONTEXT)


def train(run: Run, race: Race, step_seconds: float) -> Run:
    """Train until the steps are done (this project) or the time is up (the others)."""
    side, batch = enter(run, race)
    validation = open_bin(race.tokens, "validation")
    params = side.params if isinstance(side, TrainState) else None
    fitted = FittedRate(run.rate, race.seconds, step_seconds)
    curve: list[tuple[float, float]] = []
    step = tokens = 0
    clock = Clock()
    with Progress(f"{run.name}, {run.rate:g}, seed {run.seed}", None, "tok") as progress:
        while True:
            is_over = step == params.max_steps if params else clock.seconds >= race.seconds
            if is_over or clock.seconds >= len(curve) * race.seconds / LOOKS:
                with clock.stopped():
                    loss = validation_loss(side, validation, race.validation_tokens)
                curve.append((clock.seconds, loss))
            if is_over:
                break
            rate = learning_rate(step, params) if params else fitted(step, clock.seconds)
            inputs, targets = batch(step)
            update(side, (inputs, targets), rate)
            synchronize(side.device)
            step, tokens = step + 1, tokens + inputs.numel()
            progress.advance(inputs.numel(), f"{clock.seconds:.0f} s, validation {curve[-1][1]:.3f}")
    dtype = str(side.dtype).removeprefix("torch.")
    found = {"dtype": dtype, "parameters": count_params(side.model), "tokens": tokens, "curve": tuple(curve)}
    return Run(**{**vars(run), **found})
