"""Results of a training run: the stage train, and fine-tuning."""

from typing import Annotated

from pydantic import Field

from slm.core.config import StrictModel
from slm.core.files import Count, Details


class TrainPoint(StrictModel):
    """A row of train.csv: the training steps since the previous row."""

    step: Count
    # Tokens trained on so far.
    tokens: Count
    # Mean over these steps, nats per token.
    train_loss: float
    # Learning rate and gradient norm (before clipping) of the last of these steps.
    learning_rate: float
    # Infinite where float16 overflowed.
    grad_norm: Annotated[float, Field(allow_inf_nan=True)]


class ValidationPoint(StrictModel):
    """A row of val.csv: an evaluation on the validation split during training."""

    step: Count
    tokens: Count
    # Nats per token.
    val_loss: float


class TrainMetrics(StrictModel):
    """reports/train.json"""

    num_params: Count
    tokens_seen: Count


class TrainSummary(StrictModel):
    """The properties of a training run that are the same in every repetition."""

    steps: Count
    stopped_early: bool
    best_step: Count
    # Nats per token.
    best_val_loss: float
    epochs: float
    dtype: str
    device: str


class TrainDetails(TrainSummary, Details):
    """reports/details/train.json"""

    # Folder of the initial weights; None if they were random.
    init_from: str | None = None
