"""The curves of a training run: rows with the same keys, one CSV file each.
What a training run has to show so far, and the weights that did best.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from slm.core.errors import UserError
from slm.results.train import TrainPoint, ValidationPoint


@dataclass
class Record:
    """How far a training run has come. A new one has done nothing yet."""

    step: int = 0  # steps done
    tokens: int = 0  # predicted in them
    train_curve: list[TrainPoint] = field(default_factory=list)
    validation_curve: list[ValidationPoint] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    recent: list[Tensor] = field(default_factory=list)  # loss and gradient norm since the last point

    @property
    def best(self) -> ValidationPoint:
        """The look at the validation split with the lowest loss; of equals, the first."""
        return min(self.validation_curve, key=lambda point: point.val_loss)

    @property
    def looks_since_best(self) -> int:
        return len(self.validation_curve) - 1 - self.validation_curve.index(self.best)

    def add_step(self, loss: Tensor, grad_norm: Tensor, n_tokens: int) -> None:
        """Note a step. The scalars stay on the device: reading them would wait for it."""
        self.recent.append(torch.stack([loss, grad_norm]))
        self.step += 1
        self.tokens += n_tokens

    def add_train_point(self, learning_rate: float) -> None:
        """Sum up the steps since the last point. Raises UserError if a loss is no number."""
        losses, grad_norms = torch.stack(self.recent).T.tolist()
        for step, loss in enumerate(losses, start=self.step - len(losses) + 1):
            _check_finite("training", loss, step)
        mean = math.fsum(losses) / len(losses)
        self.train_curve.append(
            TrainPoint(
                step=self.step,
                tokens=self.tokens,
                train_loss=mean,
                learning_rate=learning_rate,
                grad_norm=grad_norms[-1],
            )
        )
        self.recent.clear()

    def add_validation_point(self, loss: float, weights: dict[str, Tensor]) -> None:
        """Note a look at the validation split; keep a copy of the weights if they did best."""
        _check_finite("validation", loss, self.step)
        self.validation_curve.append(ValidationPoint(step=self.step, tokens=self.tokens, val_loss=loss))
        if self.best is self.validation_curve[-1]:
            self.best_weights = {name: weight.to("cpu", copy=True) for name, weight in weights.items()}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All of it, as tensors and plain values."""
        tensors = {f"best.{name}": weight for name, weight in self.best_weights.items()}
        if self.recent:
            tensors["recent"] = torch.stack(self.recent)
        values: dict[str, Any] = {"step": self.step, "tokens": self.tokens}
        for name in ("train_curve", "validation_curve"):
            values[name] = [point.model_dump() for point in getattr(self, name)]
        return tensors, values

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any], device: torch.device) -> None:
        """Go back to what `state` gave."""
        self.step, self.tokens = values["step"], values["tokens"]
        self.train_curve = [TrainPoint(**point) for point in values["train_curve"]]
        self.validation_curve = [ValidationPoint(**point) for point in values["validation_curve"]]
        best = {key: weight for key, weight in tensors.items() if key.startswith("best.")}
        self.best_weights = {key.removeprefix("best."): weight for key, weight in best.items()}
        self.recent = list(tensors["recent"].to(device)) if "recent" in tensors else []


def _check_finite(name: str, loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise UserError(f"step {step}: the {name} loss is {loss}; a lower learning_rate may help")
