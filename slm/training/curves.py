"""The curves of a training run: rows with the same keys, one CSV file each."""

from dataclasses import asdict, dataclass
from pathlib import Path

from slm.files import write_table


@dataclass(frozen=True)
class TrainPoint:
    """How training went in the steps since the last point."""

    step: int  # done so far
    tokens: int  # predicted so far
    train_loss: float  # mean over these steps, nats a token
    learning_rate: float  # of the last of them
    grad_norm: float  # of the last of them, before it was clipped


@dataclass(frozen=True)
class ValidationPoint:
    """How the model did on the validation split after so many steps."""

    step: int
    tokens: int
    val_loss: float  # nats a token


def write_curve(path: Path, points: list[TrainPoint] | list[ValidationPoint]) -> None:
    """Write the points (at least one) as CSV."""
    write_table(path, asdict(points[0]), (asdict(point).values() for point in points))
