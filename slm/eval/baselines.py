"""An n-gram model to compare with: interpolated Kneser-Ney (Kneser & Ney 1995; Chen & Goodman 1999).

The probability of a token w after a context h of n − 1 tokens is

    p(w | h) = (max(c(h w) − D, 0) + D · |{w′: c(h w′) > 0}| · p(w | h′)) / Σ c(h w′)

where h′ is h without its first token. At the highest order c counts how often an n-gram occurs, below it in
how many different tokens' company: c(g) = |{v: v g occurs}|. Below one token lies the uniform distribution. A
context that never occurs leaves everything to the shorter one. So each context's probabilities sum to 1.

Each order has its discount D = n₁ / (n₁ + 2 n₂), where n₁ n-grams have c = 1 and n₂ have c = 2 (Ney et al.
1994).
What a loss is worth: above it what knows less than the model, below it the entropy of the text.
"""

import lzma
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from slm.core.progress import Progress
from slm.eval.breakdown import count_tokens
from slm.tokenizer.bins import TokensMeta

NO_ONES = 0.5  # the discount where no n-gram has c = 1; any in (0, 1) keeps every probability above 0


class Grams(NamedTuple):
    """The k-grams of a text of N tokens: G different ones, numbered from 0."""

    at: np.ndarray  # (N,) which k-gram ends at each position
    first: np.ndarray  # (G,) where each k-gram ends first
    context: np.ndarray  # (G,) its first k − 1 tokens, by their number among the (k − 1)-grams


def ngram_losses(
    train_tokens: np.ndarray, validation_tokens: np.ndarray, order: int, vocab_size: int
) -> np.ndarray:
    """Negative log-likelihood in nats (N,) of the validation tokens, by the n-grams of the training split.

    The validation split is read as if it followed the training split, which gives its first tokens a context;
    the training split is a ring, so its first tokens have one too.
    """
    n_train = len(train_tokens)
    tokens = np.concatenate([train_tokens, validation_tokens]).astype(np.int64)
    previous = np.arange(-1, len(tokens) - 1)
    previous[0] = n_train - 1

    probabilities = np.full(len(validation_tokens), 1 / vocab_size)
    grams = _extend(np.zeros_like(tokens), tokens, vocab_size)
    for _ in range(order - 1):
        longer = _extend(grams.at[previous], tokens, vocab_size)
        distinct = grams.at[longer.first[longer.first < n_train]]  # a k-gram once for each token before it
        probabilities = _interpolate(distinct, grams, n_train, probabilities)
        grams = longer
    probabilities = _interpolate(grams.at[:n_train], grams, n_train, probabilities)
    return -np.log(probabilities)


def _extend(contexts: np.ndarray, tokens: np.ndarray, vocab_size: int) -> Grams:
    """The k-grams that the (k − 1)-grams before each position make with the token there."""
    keys, first, at = np.unique(contexts * vocab_size + tokens, return_index=True, return_inverse=True)
    return Grams(at, first, keys // vocab_size)


def _interpolate(counted: np.ndarray, grams: Grams, n_train: int, lower: np.ndarray) -> np.ndarray:
    """Probabilities of the validation's k-grams, given its (k − 1)-grams' and which k-grams to count."""
    counts = np.bincount(counted, minlength=len(grams.first))
    ones, twos = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    discount = ones / (ones + 2 * twos) if ones else NO_ONES
    at = grams.at[n_train:]
    context = grams.context[at]
    total = np.bincount(grams.context, weights=counts)[context]
    distinct = np.bincount(grams.context, weights=counts > 0)[context]
    discounted = np.maximum(counts[at] - discount, 0) + discount * distinct * lower
    return np.divide(discounted, total, out=lower.copy(), where=total > 0)


def baselines(
    meta: TokensMeta,
    train: np.ndarray,
    validation: np.ndarray,
    train_counts: np.ndarray,
    texts: Iterable[str],
    ngram_order: int,
) -> dict[str, float]:
    """Bits per byte of the validation split by what knows less than the model; the most ignorant comes first.

    `train_counts` (V,) says how often each token occurs in training, `texts` are the split's documents.
    An `ngram_order` of 0 is no n-gram model.
    """
    bits = {
        "uniform": len(validation) * math.log2(meta.vocab_size),  # each token is as likely as any other
        "unigram": unigram_bits(validation, train_counts),
        "xz": xz_bits(texts, meta.validation.bytes),
    }
    if ngram_order:
        losses = ngram_losses(train, validation, ngram_order, meta.vocab_size)
        bits[f"{ngram_order}-gram"] = float(losses.sum(dtype=np.float64)) / math.log(2)
    return {name: total / meta.validation.bytes for name, total in bits.items()}


def unigram_bits(tokens: np.ndarray, train_counts: np.ndarray) -> float:
    """Bits of a text's tokens by how often each occurs in training (V,), whatever stands before it.

    p(w) = (c(w) + 1) / (N + V), where one more than counted leaves no token impossible (Laplace 1814). With
    no context that could be too rare to go by, nothing finer is needed.
    """
    probabilities = (train_counts + 1) / (train_counts.sum() + len(train_counts))
    return float(-count_tokens(tokens, len(train_counts)) @ np.log2(probabilities))


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
