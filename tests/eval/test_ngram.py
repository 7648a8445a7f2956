"""The n-gram baseline, against a slow one straight from the formulas."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.eval.baselines import ngram_losses


def slow_model(train: list[int], order: int, vocab_size: int):
    """p(token | context) of interpolated Kneser-Ney, with dictionaries; the training text is a ring."""

    def around(end: int, k: int) -> tuple[int, ...]:
        return tuple(train[(end - k + 1 + i) % len(train)] for i in range(k))

    counts = {order: Counter(around(end, order) for end in range(len(train)))}
    for k in range(1, order):
        before = defaultdict(set)
        for end in range(len(train)):
            first, *gram = around(end, k + 1)
            before[tuple(gram)].add(first)
        counts[k] = {gram: len(tokens) for gram, tokens in before.items()}

    def discount(k: int) -> float:
        ones, twos = (sum(c == n for c in counts[k].values()) for n in (1, 2))
        return ones / (ones + 2 * twos) if ones else 0.5

    def probability(token: int, context: tuple[int, ...]) -> float:
        k = len(context) + 1
        lower = probability(token, context[1:]) if context else 1 / vocab_size
        following = {gram[-1]: c for gram, c in counts[k].items() if gram[:-1] == context}
        if not following:
            return lower
        d = discount(k)
        return (max(following.get(token, 0) - d, 0) + d * len(following) * lower) / sum(following.values())

    return probability


def fast_probability(train, context, token, order, vocab_size) -> float:
    losses = ngram_losses(
        np.array(train, np.uint16), np.array([*context, token], np.uint16), order, vocab_size
    )
    return math.exp(-losses[-1])


@settings(max_examples=60, deadline=None)
@given(
    train=st.lists(st.integers(0, 4), min_size=1, max_size=40),
    validation=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    order=st.integers(1, 4),
)
def test_losses_are_those_of_the_formulas(train, validation, order):
    slow = slow_model(train, order, vocab_size=5)
    before = [train[-1 - i % len(train)] for i in range(order - 1)][::-1]  # the training split comes before
    line = before + validation
    expected = [-math.log(slow(line[i], tuple(line[i - order + 1 : i]))) for i in range(order - 1, len(line))]
    found = ngram_losses(np.array(train, np.uint16), np.array(validation, np.uint16), order, vocab_size=5)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_of_each_context_sum_to_one(order):
    train = np.random.default_rng(0).zipf(1.5, 60).clip(max=8).tolist()  # 0, 9 and most contexts never occur
    contexts = [train[10:15], train[30:35], [0, 9, 0, 9, 0], [9, 9, 9, 1, 1], [1, 1, 1, 1, 9]]
    for context in contexts:
        total = sum(fast_probability(train, context, token, order, 10) for token in range(10))
        assert total == pytest.approx(1, abs=1e-12)


def test_a_regular_text_is_predicted_better_by_higher_orders():
    text = np.tile([1, 2, 1, 3, 1, 1, 4], 100).astype(np.uint16)
    losses = [ngram_losses(text, text, order, vocab_size=8).mean() for order in (1, 2, 3)]
    assert losses[0] > losses[1] > losses[2]


def test_large_vocabularies_do_not_overflow():
    random = np.random.default_rng(0)
    vocab_size = 2**32
    train, validation = (random.integers(50, size=500, dtype=np.uint32) for _ in range(2))
    low = ngram_losses(train, validation, 5, vocab_size)
    high = ngram_losses(*(np.uint32(vocab_size - 1) - part for part in (train, validation)), 5, vocab_size)
    np.testing.assert_allclose(high, low, rtol=1e-12)
