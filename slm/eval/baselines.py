"""Baselines: bits per byte of simpler models of the same text.

The n-gram model is interpolated Kneser-Ney (Kneser & Ney 1995; Chen & Goodman 1999). The probability of a
token w after a context h of n − 1 tokens is

    p(w | h) = (max(c(h w) − D, 0) + D · |{w′: c(h w′) > 0}| · p(w | h′)) / Σ c(h w′)

where h′ is h without its first token. At the highest order c(g) is the number of occurrences of an n-gram g,
at lower orders the number of distinct tokens before it: c(g) = |{v: v g occurs}|. Below one token lies the
uniform distribution. A context that never occurs passes all probability to the shorter one, so the
probabilities after every context sum to 1.

Each order has its discount D = n₁ / (n₁ + 2 n₂), where n₁ n-grams have c = 1 and n₂ have c = 2 (Ney et al.
1994).
"""

import lzma
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from slm.core.progress import Progress
from slm.eval.breakdown import count_tokens
from slm.tokenizer.bins import TokensMeta

# The discount where no n-gram has c = 1; any value in (0, 1) keeps all probabilities positive.
DEFAULT_DISCOUNT = 0.5


def baselines(
    meta: TokensMeta,
    train: np.ndarray,
    validation: np.ndarray,
    train_counts: np.ndarray,
    texts: Iterable[str],
    ngram_order: int,
) -> dict[str, float]:
    """Return the bits per byte of each baseline on the validation split, weakest first.

    `train_counts` (V,) are the occurrences of each token in training, `texts` the validation documents. An
    `ngram_order` of 0 leaves out the n-gram model.
    """
    bits = {
        "uniform": len(validation) * math.log2(meta.vocab_size),
        "unigram": unigram_bits(validation, train_counts),
        "xz": xz_bits(texts, meta.validation.bytes),
    }
    if ngram_order:
        losses = ngram_losses(train, validation, ngram_order, meta.vocab_size)
        bits[f"{ngram_order}-gram"] = float(losses.sum(dtype=np.float64)) / math.log(2)
    return {name: total / meta.validation.bytes for name, total in bits.items()}


def gap_closed(ngram: float, model: float, entropy: float) -> float:
    """Return the fraction of the gap between the n-gram model and the entropy that the model closes."""
    return (ngram - model) / (ngram - entropy)


def unigram_bits(tokens: np.ndarray, train_counts: np.ndarray) -> float:
    """Return the bits of the tokens under their frequencies in training (V,).

    p(w) = (c(w) + 1) / (N + V): adding one leaves no token impossible (Laplace 1814). Without a context,
    which could be rare, this smoothing is enough.
    """
    probabilities = (train_counts + 1) / (train_counts.sum() + len(train_counts))
    return float(-count_tokens(tokens, len(train_counts)) @ np.log2(probabilities))


def xz_bits(texts: Iterable[str], n_bytes: int) -> int:
    """Return the bits to which `xz -9e` compresses texts of `n_bytes` in all, in at most 0.7 GB of memory.

    It sees only these texts, not the training split, and finds repetitions within 64 MiB, so more text
    compresses better. A zero byte ends each text, as a token does for the other baselines.
    """
    compressor = lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME)
    n_compressed = 0
    with Progress("compressing", n_bytes, "B") as progress:
        for text in texts:
            data = text.encode()
            n_compressed += len(compressor.compress(data + b"\0"))
            progress.advance(len(data))
    return 8 * (n_compressed + len(compressor.flush()))


class Grams(NamedTuple):
    """The k-grams of a text of N tokens: G distinct ones, numbered from 0."""

    # (N,) number of the k-gram that ends at each position.
    at: np.ndarray
    # (G,) position at which each k-gram first ends.
    first: np.ndarray
    # (G,) number of the first k − 1 tokens among the (k − 1)-grams.
    context: np.ndarray


def ngram_losses(
    train_tokens: np.ndarray, validation_tokens: np.ndarray, order: int, vocab_size: int
) -> np.ndarray:
    """Return the negative log-likelihood in nats (N,) of the validation tokens under an n-gram model.

    Its counts are those of the training split. The validation split is read as if it followed the training
    split, which gives its first tokens a context; the training split is a ring, so its first tokens have one
    too.
    """
    n_train = len(train_tokens)
    tokens = np.concatenate([train_tokens, validation_tokens]).astype(np.int64)
    previous = np.arange(-1, len(tokens) - 1)
    previous[0] = n_train - 1

    probabilities = np.full(len(validation_tokens), 1 / vocab_size)
    grams = _extend(np.zeros_like(tokens), tokens, vocab_size)
    for _ in range(order - 1):
        longer = _extend(grams.at[previous], tokens, vocab_size)
        # Each k-gram as often as there are distinct tokens before it.
        continuations = grams.at[longer.first[longer.first < n_train]]
        probabilities = _interpolate(continuations, grams, n_train, probabilities)
        grams = longer
    probabilities = _interpolate(grams.at[:n_train], grams, n_train, probabilities)
    losses: np.ndarray = -np.log(probabilities)
    return losses


def _extend(contexts: np.ndarray, tokens: np.ndarray, vocab_size: int) -> Grams:
    """Return the k-grams that consist of the (k − 1)-gram before each position and the token there."""
    keys, first, at = np.unique(contexts * vocab_size + tokens, return_index=True, return_inverse=True)
    return Grams(at, first, keys // vocab_size)


def _interpolate(counted: np.ndarray, grams: Grams, n_train: int, lower: np.ndarray) -> np.ndarray:
    """Return the probabilities of the validation tokens at one order, given those of the next lower order.

    `counted` are the numbers of the k-grams to count.
    """
    counts = np.bincount(counted, minlength=len(grams.first))
    ones, twos = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    discount = ones / (ones + 2 * twos) if ones else DEFAULT_DISCOUNT
    at = grams.at[n_train:]
    context = grams.context[at]
    total = np.bincount(grams.context, weights=counts)[context]
    distinct = np.bincount(grams.context, weights=counts > 0)[context]
    discounted = np.maximum(counts[at] - discount, 0) + discount * distinct * lower
    probabilities: np.ndarray = np.divide(discounted, total, out=lower.copy(), where=total > 0)
    return probabilities
