"""What a loss is worth: above it what knows less than the model, below it the entropy of the text."""

import lzma
import math
from collections.abc import Iterable

import numpy as np

from slm.evaluation.breakdown import count_tokens
from slm.evaluation.ngram import ngram_losses
from slm.progress import Progress
from slm.tokens.bins import TokensMeta


def baselines(
    meta: TokensMeta,
    train: np.ndarray,
    validation: np.ndarray,
    training_counts: np.ndarray,
    texts: Iterable[str],
    ngram_order: int,
) -> dict[str, float]:
    """Bits per byte of the validation split by what knows less than the model; the most ignorant comes first.

    `training_counts` (V,) says how often each token occurs in training, `texts` are the split's documents.
    An `ngram_order` of 0 is no n-gram model.
    """
    bits = {
        "uniform": len(validation) * math.log2(meta.vocab_size),  # each token is as likely as any other
        "unigram": unigram_bits(validation, training_counts),
        "xz": xz_bits(texts, meta.validation.bytes),
    }
    if ngram_order:
        losses = ngram_losses(train, validation, ngram_order, meta.vocab_size)
        bits[f"{ngram_order}-gram"] = float(losses.sum(dtype=np.float64)) / math.log(2)
    return {name: total / meta.validation.bytes for name, total in bits.items()}


def unigram_bits(tokens: np.ndarray, training_counts: np.ndarray) -> float:
    """Bits of a text's tokens by how often each occurs in training (V,), whatever stands before it.

    p(w) = (c(w) + 1) / (N + V), where one more than counted leaves no token impossible (Laplace 1814). With
    no context that could be too rare to go by, nothing finer is needed.
    """
    probabilities = (training_counts + 1) / (training_counts.sum() + len(training_counts))
    return float(-count_tokens(tokens, len(training_counts)) @ np.log2(probabilities))


def xz_bits(texts: Iterable[str], n_bytes: int) -> int:
    """Bits that `xz -9e` makes of texts of `n_bytes` in all, in at most 0.7 GB of memory.

    It is given these texts alone, nothing of the training split, and finds what repeats in the last 64 MiB:
    so it does the better the more there are. A zero byte ends each text, as a token does for the others.
    """
    compressor = lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME)
    n_compressed = 0
    with Progress("compressing", n_bytes, "B") as progress:
        for text in texts:
            data = text.encode()
            n_compressed += len(compressor.compress(data + b"\0"))
            progress.advance(len(data))
    return 8 * (n_compressed + len(compressor.flush()))


def gap_closed(ngram: float, model: float, entropy: float) -> float:
    """The share of the way from the n-gram model down to the entropy that the model went."""
    return (ngram - model) / (ngram - entropy)
