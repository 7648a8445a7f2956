"""What a loss is worth: above it a model that only counts n-grams, below it the entropy of the text."""

import math
from typing import Any

import numpy as np

from slm.evaluation.ngram import ngram_losses


def compare(
    result: dict[str, float],
    train: np.ndarray,
    validation: np.ndarray,
    vocab_size: int,
    n_bytes: int,
    ngram_order: int,
    entropy: dict[str, float] | None,
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
        found["entropy_bits_per_byte"] = entropy["bits_per_byte"]
        found["entropy_standard_error"] = entropy["standard_error"]
    if ngram_order and entropy:
        gap = found["ngram_bits_per_byte"] - entropy["bits_per_byte"]
        found["ngram_gap_closed"] = (found["ngram_bits_per_byte"] - bits_per_byte) / gap
    return found
