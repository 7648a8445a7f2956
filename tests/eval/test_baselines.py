"""Baselines, compared with sums by hand, Python's xz and a slow n-gram model."""

import lzma
import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.core.config import validate
from slm.eval.baselines import baselines, gap_closed, ngram_losses, unigram_bits, xz_bits
from slm.tokenizer.bins import TokensMeta

VOCAB = 11
ids = st.integers(0, VOCAB - 1)
TEXTS = ["Once upon a time.", "", "Il était une fois 日本", "Once upon a time, once more. " * 40]


def meta(n_bytes):
    split = {"tokens": 1, "documents": 1, "bytes": n_bytes}
    values = {"vocab_size": VOCAB, "end_of_text": 10, "dtype": "uint16", "train": split, "validation": split}
    return validate(TokensMeta, values, "meta.json")


def tokens(n, seed=0):
    return np.random.default_rng(seed).zipf(1.5, size=n).clip(max=VOCAB).astype(np.uint16) - 1


@given(
    train=st.lists(st.integers(0, VOCAB - 1), min_size=1),
    text=st.lists(st.integers(0, VOCAB - 1), min_size=1),
)
def test_unigram_bits_use_add_one_smoothing(train, text):
    expected = math.fsum(-math.log2((train.count(t) + 1) / (len(train) + VOCAB)) for t in text)
    bits = unigram_bits(np.array(text, np.uint16), np.bincount(train, minlength=VOCAB))
    assert bits == pytest.approx(expected)


def test_unigram_probabilities_sum_to_one():
    counts = np.array([0, 3, 100, 0, 1])
    assert sum(2 ** -unigram_bits(np.array([t]), counts) for t in range(5)) == pytest.approx(1)


def test_xz_bits_equal_one_shot_compression():
    whole = "".join(f"{text}\0" for text in TEXTS).encode()
    expected = 8 * len(lzma.compress(whole, preset=9 | lzma.PRESET_EXTREME))
    assert xz_bits(iter(TEXTS), sum(len(text.encode()) for text in TEXTS)) == expected


def test_baselines_are_ordered_and_follow_their_definitions():
    train, validation, texts = tokens(500), tokens(60, seed=1), ["abc" * 40]
    counts = np.bincount(train, minlength=VOCAB)
    bits = baselines(meta(120), train, validation, counts, texts, ngram_order=3)
    assert bits == {
        "uniform": pytest.approx(60 * math.log2(VOCAB) / 120),
        "unigram": pytest.approx(unigram_bits(validation, counts) / 120),
        "xz": xz_bits(texts, 120) / 120,
        "3-gram": pytest.approx(ngram_losses(train, validation, 3, VOCAB).sum() / math.log(2) / 120),
    }
    assert list(bits) == ["uniform", "unigram", "xz", "3-gram"]


def test_baselines_of_order_0_have_no_ngram_model():
    bits = baselines(meta(9), tokens(50), tokens(9), np.ones(VOCAB, int), ["a" * 9], ngram_order=0)
    assert list(bits) == ["uniform", "unigram", "xz"]


def test_gap_closed_is_0_at_the_ngram_and_1_at_the_entropy():
    assert gap_closed(ngram=0.5, model=0.5, entropy=0.2) == 0
    assert gap_closed(ngram=0.5, model=0.2, entropy=0.2) == 1
    assert gap_closed(ngram=0.5, model=0.275, entropy=0.2) == pytest.approx(0.75)


def slow_model(train: list[int], order: int, vocab_size: int):
    """Return p(token | context) of interpolated Kneser-Ney by dictionaries; the training text is a ring."""

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
def test_ngram_losses_match_the_formulas(train, validation, order):
    slow = slow_model(train, order, vocab_size=5)
    # The validation split follows the training split.
    before = [train[-1 - i % len(train)] for i in range(order - 1)][::-1]
    line = before + validation
    expected = [-math.log(slow(line[i], tuple(line[i - order + 1 : i]))) for i in range(order - 1, len(line))]
    losses = ngram_losses(np.array(train, np.uint16), np.array(validation, np.uint16), order, vocab_size=5)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_ngram_probabilities_sum_to_one(order):
    # The tokens 0 and 9, and most contexts, never occur.
    train = np.random.default_rng(0).zipf(1.5, 60).clip(max=8).tolist()
    contexts = [train[10:15], train[30:35], [0, 9, 0, 9, 0], [9, 9, 9, 1, 1], [1, 1, 1, 1, 9]]
    for context in contexts:
        total = sum(fast_probability(train, context, token, order, 10) for token in range(10))
        assert total == pytest.approx(1, abs=1e-12)


def test_higher_order_ngrams_predict_regular_text_better():
    text = np.tile([1, 2, 1, 3, 1, 1, 4], 100).astype(np.uint16)
    losses = [ngram_losses(text, text, order, vocab_size=8).mean() for order in (1, 2, 3)]
    assert losses[0] > losses[1] > losses[2]


def test_ngram_losses_of_large_vocabularies_do_not_overflow():
    random = np.random.default_rng(0)
    vocab_size = 2**32
    train, validation = (random.integers(50, size=500, dtype=np.uint32) for _ in range(2))
    low = ngram_losses(train, validation, 5, vocab_size)
    high = ngram_losses(*(np.uint32(vocab_size - 1) - part for part in (train, validation)), 5, vocab_size)
    np.testing.assert_allclose(high, low, rtol=1e-12)
