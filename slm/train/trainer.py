"""The training loop."""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from slm.core.progress import Progress
from slm.model.gpt import IGNORED, n_params, save_model
from slm.model.params import ModelParams
from slm.results.train import TrainMetrics, TrainPoint, TrainSummary, ValidationPoint
from slm.train.data import Batches
from slm.train.distributed import is_first, n_ranks, say
from slm.train.history import Record
from slm.train.learner import Learner
from slm.train.params import TrainParams
from slm.train.resume import Resume, resuming
from slm.train.schedule import learning_rate

POINTS_PER_LOOK = 10  # on the training curve, between two looks at the validation split


@dataclass(frozen=True)
class TrainResult:
    """What training leaves beside the model."""

    metrics: TrainMetrics
    summary: TrainSummary
    train_curve: list[TrainPoint]
    validation_curve: list[ValidationPoint]
    measured: dict[str, Any]  # another on every run


def train(
    model_params: ModelParams,
    params: TrainParams,
    batches: Batches,
    vocab_size: int,
    out: Path,
    resume: Resume | None = None,
    weights: dict[str, Tensor] | None = None,
) -> TrainResult:
    """Train a model and write the one that did best on the validation split to the folder `out`.

    It is a new one, or begins with the `weights` of another. Nothing is written to `out` before the end. With
    `resume`, an interrupted run goes on from its last state and ends with the same bytes. Raises UserError
    if the loss stops being a number, KeyboardInterrupt when it is told to stop.
    """
    learner, record = Learner(model_params, params, vocab_size), Record()
    if weights is not None:
        learner.model.load_state_dict(weights)
    with resuming(resume, learner, record, params) if resume else nullcontext(lambda: None) as before_step:
        measured = _run(learner, record, params, batches, before_step)
        learner.model.load_state_dict(record.best_weights)
        if is_first():
            save_model(learner.model, out)
    metrics = TrainMetrics(num_params=n_params(learner.model), tokens_seen=record.tokens)
    summary = TrainSummary(
        steps=record.step,
        stopped_early=record.step < params.max_steps,
        best_step=record.best.step,
        best_val_loss=record.best.val_loss,
        epochs=round(record.tokens / batches.n_targets, 4),
        dtype=learner.choices()["dtype"],
        device=learner.device.type,
    )
    return TrainResult(metrics, summary, record.train_curve, record.validation_curve, measured)


def _run(
    learner: Learner,
    record: Record,
    params: TrainParams,
    batches: Batches,
    before_step: Callable[[], None],
) -> dict[str, Any]:
    """Take the steps that are left; say how fast that was."""
    block_size = learner.model.params.block_size
    rows = params.batch_size * params.grad_accum_steps
    log_interval = max(1, params.eval_interval // POINTS_PER_LOOK)
    first_step, first_tokens, start = record.step, record.tokens, time.monotonic()
    n_targets = rows * block_size  # a step

    with Progress("training", params.max_steps * n_targets, "tok", first_step * n_targets) as progress:
        while True:
            before_step()
            step = record.step
            evaluates = step % params.eval_interval == 0 or step == params.max_steps
            if record.recent and (evaluates or step % log_interval == 0):
                record.add_train_point(learning_rate(step - 1, params))
            if evaluates:
                record.add_validation_point(
                    learner.validation_loss(batches.validation()), learner.model.state_dict()
                )
            if step == params.max_steps or 0 < params.patience <= record.looks_since_best:
                break
            inputs, targets = batches.training(step)
            loss, grad_norm = learner.step(inputs, targets, learning_rate(step, params))
            record.add_step(loss, grad_norm, n_tokens=int((targets != IGNORED).sum()))
            progress.advance(n_targets, _note(record))

    seconds, best = time.monotonic() - start, record.best
    rate = (record.tokens - first_tokens) / seconds
    say(
        f"best validation loss {best.val_loss:.4f} after {best.step:,} of {record.step:,} steps; "
        f"{tqdm.format_interval(seconds)}, {rate:,.0f} tok/s with the evaluations"
    )
    steps = {"first_step": first_step, "last_step": record.step}
    return {**steps, "tokens_per_second": round(rate), "processes": n_ranks()}


def _note(record: Record) -> str:
    """The last losses, to show beside the progress."""
    if not record.train_curve:
        return ""
    train, validation = record.train_curve[-1], record.validation_curve[-1]
    return f"loss {train.train_loss:.3f}, validation {validation.val_loss:.3f}"
