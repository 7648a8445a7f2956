"""Train one model of a race against the clock, and evaluate its validation loss at intervals.

Shapes: B sequences, T tokens in each, V = vocab_size.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from benchmarks.references import (
    ReferenceTrainer,
    Shape,
    nanogpt_batch,
    nanogpt_learning_rate,
    run_step,
    synchronize,
)
from slm.core.progress import Progress
from slm.model.gpt import count_params
from slm.model.loss import cross_entropy
from slm.model.params import ModelParams
from slm.tokenizer.bins import open_bin, read_meta
from slm.train.data import training_batch
from slm.train.params import TrainParams, learning_rate, n_chunks
from slm.train.state import TrainState

IMPLEMENTATIONS = {"slm": "this project", "nanogpt": "nanoGPT", "transformers": "GPT-2 of transformers"}
# Sizes of the reference models. All models have the same context.
LAYERS, HEADS, WIDTH, CONTEXT = 4, 4, 128, 256
# Number of evaluations in the time of the race.
N_EVALS = 30
TRIAL_STEPS = 8


@dataclass(frozen=True)
class Race:
    """The settings of all runs of a race. Runs are comparable if their `conditions` are equal."""

    conditions: str
    # Folder with the bins.
    tokens: Path
    # Params file of this project.
    params: Path
    # Checkout of nanoGPT.
    nanogpt: Path | None
    # Training time of the reference implementations.
    seconds: float
    # Batch size and beta2 of the reference implementations.
    batch_size: int
    beta2: float
    validation_tokens: int


@dataclass(frozen=True)
class Run:
    """A training run and its result: `curve` has pairs of seconds of training and validation loss."""

    # Key of IMPLEMENTATIONS, and its display name with its recipe.
    implementation: str
    name: str
    seed: int
    peak_lr: float
    compiled: bool
    conditions: str
    dtype: str = ""
    num_params: int = 0
    tokens_seen: int = 0
    curve: tuple[tuple[float, float], ...] = ()

    @property
    def seconds(self) -> float:
        """Return the training time."""
        return self.curve[-1][0]

    @property
    def loss(self) -> float:
        """Return the final validation loss."""
        return self.curve[-1][1]

    def seconds_to(self, target: float) -> float | None:
        """Return the time to a target loss, with linear interpolation; None if the run does not reach it."""
        for i, (seconds, loss) in enumerate(self.curve):
            if loss <= target:
                if i == 0:
                    return seconds
                before, higher = self.curve[i - 1]
                return before + (seconds - before) * (higher - target) / (higher - loss)
        return None


class Stopwatch:
    """Counts the seconds of training, without evaluations."""

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self._now = now
        self._start = now()

    @property
    def seconds(self) -> float:
        """Return the seconds since the start, without pauses."""
        return self._now() - self._start

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time inside the `with` block."""
        before = self._now()
        yield
        self._start += self._now() - before


class TimedSchedule:
    """nanoGPT's schedule for a run of fixed time, with the number of steps estimated from its speed."""

    def __init__(self, peak: float, seconds: float, step_seconds: float):
        self.peak, self.seconds, self.step_seconds = peak, seconds, step_seconds
        # Seconds of the first step, which includes compilation.
        self.first_step_seconds = 0.0

    def __call__(self, step: int, elapsed: float) -> float:
        """Return the learning rate of a step, counted from 0, that begins after `elapsed` seconds."""
        if step == 1:
            self.first_step_seconds = elapsed
        # At first the speed of the trial is more reliable.
        if step > TRIAL_STEPS:
            self.step_seconds = (elapsed - self.first_step_seconds) / (step - 1)
        n_steps = step + (self.seconds - elapsed) / self.step_seconds
        return nanogpt_learning_rate(step, n_steps, self.peak)


def set_up(
    run: Run, race: Race
) -> tuple[TrainState | ReferenceTrainer, Callable[[int], tuple[Tensor, Tensor]]]:
    """Return a new model with its training state, and a function that returns the batch of a step."""
    train, vocab_size = open_bin(race.tokens, "train"), read_meta(race.tokens).vocab_size
    if run.implementation != "slm":
        shape = Shape(LAYERS, HEADS, WIDTH, CONTEXT, vocab_size)
        reference = ReferenceTrainer(run.implementation, shape, race.nanogpt, run.compiled, beta2=race.beta2)
        return reference, lambda step: nanogpt_batch(train, CONTEXT, race.batch_size)
    params = TrainParams.load(race.params).model_copy(update={"seed": run.seed, "compile": run.compiled})
    state = TrainState(ModelParams.load(race.params), params, vocab_size)
    n_sequences = params.batch_size * params.grad_accum_steps
    return state, lambda step: training_batch(
        train, CONTEXT, n_sequences, run.seed, step, n_chunks(step, params)
    )


def measure_step_seconds(run: Run, race: Race) -> tuple[float, float]:
    """Return the seconds of the first step, which includes compilation, and of later ones."""
    trainer, batch = set_up(run, race)
    seconds = []
    for step in range(2 + TRIAL_STEPS):
        start = time.perf_counter()
        run_step(trainer, batch(step), lr=1e-4)
        synchronize(trainer.device)
        seconds.append(time.perf_counter() - start)
    return seconds[0], median(seconds[2:])


@torch.no_grad()
def validation_loss(trainer: TrainState | ReferenceTrainer, tokens: np.ndarray, n_tokens: int) -> float:
    """Return the mean loss of the first tokens in nats, in consecutive windows of CONTEXT and in float32."""
    trainer.model.eval()
    logits = trainer.logits if isinstance(trainer, ReferenceTrainer) else trainer.model
    n_windows = max(1, min(n_tokens, len(tokens) - 1) // CONTEXT)
    ids = torch.from_numpy(tokens[: n_windows * CONTEXT + 1].astype(np.int64)).to(trainer.device)
    batches = (part.view(-1, CONTEXT).split(16) for part in (ids[:-1], ids[1:]))
    sums = [
        cross_entropy(logits(inputs), targets, "sum").item() for inputs, targets in zip(*batches, strict=True)
    ]
    return sum(sums) / (n_windows * CONTEXT)


def train(run: Run, race: Race, step_seconds: float) -> Run:
    """Train for `max_steps` (this project) or the time of the race (references); return the run's results.

    `step_seconds` is the initial estimate of the time per step.
    """
    trainer, batch = set_up(run, race)
    validation = open_bin(race.tokens, "validation")
    params = trainer.params if isinstance(trainer, TrainState) else None
    schedule = TimedSchedule(run.peak_lr, race.seconds, step_seconds)
    curve: list[tuple[float, float]] = []
    step = tokens = 0
    stopwatch = Stopwatch()
    with Progress(f"{run.name}, {run.peak_lr:g}, seed {run.seed}", None, "tok") as progress:
        while True:
            is_finished = step == params.max_steps if params else stopwatch.seconds >= race.seconds
            # Evaluations are equally spaced in time and do not count.
            if is_finished or stopwatch.seconds >= len(curve) * race.seconds / N_EVALS:
                with stopwatch.paused():
                    loss = validation_loss(trainer, validation, race.validation_tokens)
                curve.append((stopwatch.seconds, loss))
            if is_finished:
                break
            lr = learning_rate(step, params) if params else schedule(step, stopwatch.seconds)
            step_batch = batch(step)
            run_step(trainer, step_batch, lr)
            synchronize(trainer.device)
            step, tokens = step + 1, tokens + step_batch.inputs.numel()
            progress.advance(
                step_batch.inputs.numel(), f"{stopwatch.seconds:.0f} s, validation {curve[-1][1]:.3f}"
            )
    return replace(
        run,
        dtype=str(trainer.dtype).removeprefix("torch."),
        num_params=count_params(trainer.model),
        tokens_seen=tokens,
        curve=tuple(curve),
    )
