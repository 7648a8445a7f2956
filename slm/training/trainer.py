"""The training loop."""

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from slm.model.checkpoint import save_model
from slm.model.gpt import IGNORED, n_params
from slm.model.params import ModelParams
from slm.params import UserError
from slm.progress import Progress
from slm.training.batches import training_batch
from slm.training.curves import TrainPoint, ValidationPoint
from slm.training.learner import Learner
from slm.training.params import TrainParams
from slm.training.schedule import learning_rate

POINTS_ON_CURVE = 200


@dataclass(frozen=True)
class TrainResult:
    """What training leaves beside the model."""

    summary: dict[str, Any]  # plain numbers and text, the same on every run
    train_curve: list[TrainPoint]
    validation_curve: list[ValidationPoint]


def train(
    model_params: ModelParams,
    params: TrainParams,
    train_tokens: np.ndarray,
    validation_tokens: np.ndarray,
    vocab_size: int,
    out: Path,
) -> TrainResult:
    """Train a new model and write the one that did best on the validation split to the folder `out`.

    Both splits are one-dimensional arrays of token ids. Nothing is written before the end, so an interrupted
    run leaves nothing behind. Raises UserError if a split is empty or the loss stops being a number.
    """
    for name, tokens in (("training", train_tokens), ("validation", validation_tokens)):
        if not len(tokens):
            raise UserError(f"the {name} split is empty; it needs at least one token")

    learner = Learner(model_params, params, vocab_size)
    model = learner.model
    rows = params.batch_size * params.grad_accum_steps
    log_interval = max(1, params.max_steps // POINTS_ON_CURVE)
    train_curve: list[TrainPoint] = []
    validation_curve: list[ValidationPoint] = []
    recent: list[tuple[Tensor, Tensor]] = []  # losses and gradient norms; reading them waits for the GPU
    tokens_done = 0
    start = time.monotonic()

    with Progress("training", params.max_steps * rows * model_params.block_size, "tok") as progress:
        for step in range(params.max_steps + 1):  # steps done so far
            evaluates = step % params.eval_interval == 0 or step == params.max_steps

            if recent and (evaluates or step % log_interval == 0):
                train_curve.append(_train_point(recent, step, tokens_done, params))
                recent.clear()

            if evaluates:
                loss = learner.validation_loss(validation_tokens)
                _check_finite("validation", loss, step)
                validation_curve.append(ValidationPoint(step, tokens_done, loss))
                best = min(validation_curve, key=lambda point: point.val_loss)  # the first of equals
                if best is validation_curve[-1]:
                    best_weights = {name: w.to("cpu", copy=True) for name, w in model.state_dict().items()}
                since_best = len(validation_curve) - 1 - validation_curve.index(best)
                if 0 < params.patience <= since_best:
                    break

            if step == params.max_steps:
                break
            inputs, targets = training_batch(train_tokens, model_params.block_size, rows, params.seed, step)
            recent.append(learner.step(inputs, targets, learning_rate(step, params)))
            tokens_done += int((targets != IGNORED).sum())
            progress.advance(targets.numel(), _note(train_curve, validation_curve))

    seconds = time.monotonic() - start
    print(
        f"training: best validation loss {best.val_loss:.4f} after {best.step:,} of {step:,} steps; "
        f"{tqdm.format_interval(seconds)}, {tokens_done / seconds:,.0f} tok/s with the evaluations",
        file=sys.stderr,
    )
    model.load_state_dict(best_weights)
    save_model(model, out)
    summary = {
        "steps": step,
        "stopped_early": step < params.max_steps,
        "best_step": best.step,
        "best_val_loss": best.val_loss,
        "tokens": tokens_done,
        "epochs": round(tokens_done / len(train_tokens), 4),
        "parameters": n_params(model),
        "dtype": str(learner.dtype).removeprefix("torch."),
        "device": learner.device.type,
        "torch": torch.__version__,
    }
    return TrainResult(summary, train_curve, validation_curve)


def _train_point(
    recent: list[tuple[Tensor, Tensor]], step: int, tokens: int, params: TrainParams
) -> TrainPoint:
    """The point of the last steps, of which `step` is the last."""
    losses, grad_norms = zip(*recent, strict=True)
    losses = torch.stack(losses).tolist()
    for number, loss in enumerate(losses, start=step - len(losses) + 1):
        _check_finite("training", loss, number)
    mean = math.fsum(losses) / len(losses)
    return TrainPoint(step, tokens, mean, learning_rate(step - 1, params), grad_norms[-1].item())


def _check_finite(name: str, loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise UserError(f"step {step}: the {name} loss is {loss}; a lower train.learning_rate may help")


def _note(train_curve: list[TrainPoint], validation_curve: list[ValidationPoint]) -> str:
    """The last losses, to show beside the progress."""
    if not train_curve:
        return ""
    return f"loss {train_curve[-1].train_loss:.3f}, validation {validation_curve[-1].val_loss:.3f}"
