"""Results of the stages evaluate and eval_dataset."""

from typing import Annotated, Literal

from pydantic import Field

from slm.core.config import StrictModel
from slm.core.files import Count, Details, Fraction, Interval, Positive


class EvalMetrics(StrictModel):
    """reports/eval.json: the model on the validation split."""

    # Nats per token.
    val_loss: Positive
    perplexity: Positive
    bits_per_byte: Positive
    # Fraction of the gap between the n-gram model and the entropy; None without either.
    ngram_gap_closed: float | None = None
    # None without minimal pairs.
    minimal_pair_acc: Fraction | None = None

    @property
    def nats_per_bit(self) -> float:
        """Return the nats per token that equal one bit per byte with this tokenizer."""
        return self.val_loss / self.bits_per_byte


class EvalScope(StrictModel):
    """The text of an evaluation, and how certain its bits per byte are."""

    # None for a single document.
    bits_per_byte_ci95: Interval | None = None
    tokens: Count
    bytes: Count
    documents: Count


class EvalDetails(EvalScope, Details):
    """reports/details/eval.json and reports/details/NAME.dataset.json"""


class Baseline(StrictModel):
    """A row of baselines.csv: the model, a baseline, or the entropy, which bounds every model from below."""

    name: str
    kind: Literal["model", "baseline", "bound"]
    bits_per_byte: Positive


class PositionLoss(StrictModel):
    """A row of by_position.csv: tokens with up to `position` tokens of context, more than the row before."""

    position: Annotated[int, Field(ge=1)]
    # extrapolated: longer than any context in training.
    context: Literal["in_context", "extrapolated"]
    # Mean, nats per token.
    loss: float
    tokens: Count


class FrequencyLoss(StrictModel):
    """A row of by_frequency.csv: tokens that training has `train_frequency` to under twice as many times."""

    train_frequency: Count
    # Mean, nats per token.
    loss: float
    tokens: Count
    # Distinct tokens.
    types: Count


class PairScore(StrictModel):
    """A row of minimal_pairs.csv: how often the model prefers the correct one of two sentences."""

    phenomenon: str
    accuracy: Fraction
    pairs: Count


class DatasetMetrics(StrictModel):
    """reports/datasets/NAME.json, under NAME: the model on another dataset."""

    # Nats per token.
    loss: Positive
    perplexity: Positive
    bits_per_byte: Positive
    # For the metric word_perplexity.
    word_perplexity: Positive | None = None
    # For the metric last_word_accuracy.
    last_word_accuracy: Fraction | None = None
    last_word_perplexity: Positive | None = None
