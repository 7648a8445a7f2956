"""What a loss is worth: above it a model that only counts n-grams, below it the entropy of the text."""

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from slm.evaluation.ngram import ngram_losses
from slm.files import read_json
from slm.params import Section


class Entropy(BaseModel):
    """The entropy of a split's text, from summary.json of the corpus."""

    model_config = Section.model_config | ConfigDict(extra="ignore")

    bits_per_byte: float
    standard_error: float


class SplitSummary(BaseModel):
    """What summary.json says of a split; the entropy is known of few texts."""

    model_config = Section.model_config | ConfigDict(extra="ignore")

    entropy: Entropy | None = None


class CorpusSummary(Section):
    """What is needed here of summary.json."""

    section: ClassVar[str] = "summary"
    model_config = ConfigDict(extra="ignore")

    validation: SplitSummary


def read_entropy(path: Path) -> Entropy | None:
    """The entropy of the validation split, if it is known. Raises UserError if summary.json is broken."""
    return CorpusSummary.check(read_json(path), path).validation.entropy


def compare(
    result: dict[str, float],
    train: np.ndarray,
    validation: np.ndarray,
    vocab_size: int,
    n_bytes: int,
    ngram_order: int,
    entropy: Entropy | None,
) -> dict[str, Any]:
    """Figures to set beside the model's `bits_per_byte`, all in bits a byte; what is not known is left out.

    `ngram_gap_closed` is the share of the way from the n-gram model down to the entropy that the model went.
    """
    bits_per_byte = result["bits_per_byte"]
    found: dict[str, Any] = {}
    if ngram_order:
        losses = ngram_losses(train, validation, ngram_order, vocab_size)
        found["ngram_order"] = ngram_order
        found["ngram_bits_per_byte"] = float(losses.sum(dtype=np.float64)) / math.log(2) / n_bytes
    if entropy:
        found["entropy_bits_per_byte"] = entropy.bits_per_byte
        found["entropy_standard_error"] = entropy.standard_error
    if ngram_order and entropy:
        gap = found["ngram_bits_per_byte"] - entropy.bits_per_byte
        found["ngram_gap_closed"] = (found["ngram_bits_per_byte"] - bits_per_byte) / gap
    return found
