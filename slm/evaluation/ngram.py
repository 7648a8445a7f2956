"""An n-gram model to compare with: interpolated Kneser-Ney (Kneser & Ney 1995; Chen & Goodman 1999).

The probability of a token w after a context h of n − 1 tokens is

    p(w | h) = (max(c(h w) − D, 0) + D · |{w′: c(h w′) > 0}| · p(w | h′)) / Σ c(h w′)

where h′ is h without its first token. At the highest order c counts how often an n-gram occurs, below it in
how many different tokens' company: c(g) = |{v: v g occurs}|. Below one token lies the uniform distribution. A
context that never occurs leaves everything to the shorter one. So each context's probabilities sum to 1.

Each order has its discount D = n₁ / (n₁ + 2 n₂), where n₁ n-grams have c = 1 and n₂ have c = 2 (Ney et al.
1994).
"""

from typing import NamedTuple

import numpy as np

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
