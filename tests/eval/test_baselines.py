"""What the model is compared with: sums by hand, and Python's own xz."""

import lzma
import math

import numpy as np
import pytest
from hypothesis import given
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
def test_the_unigram_model_counts_each_token_once_more_than_it_occurs(train, text):
    expected = math.fsum(-math.log2((train.count(t) + 1) / (len(train) + VOCAB)) for t in text)
    found = unigram_bits(np.array(text, np.uint16), np.bincount(train, minlength=VOCAB))
    assert found == pytest.approx(expected)


def test_unigram_probabilities_sum_to_one():
    counts = np.array([0, 3, 100, 0, 1])
    assert sum(2 ** -unigram_bits(np.array([t]), counts) for t in range(5)) == pytest.approx(1)


def test_xz_is_that_of_the_whole_text_at_once():
    whole = "".join(f"{text}\0" for text in TEXTS).encode()
    expected = 8 * len(lzma.compress(whole, preset=9 | lzma.PRESET_EXTREME))
    assert xz_bits(iter(TEXTS), sum(len(text.encode()) for text in TEXTS)) == expected


def test_baselines_come_in_the_order_of_what_they_know_each_by_its_definition():
    train, validation, texts = tokens(500), tokens(60, seed=1), ["abc" * 40]
    counts = np.bincount(train, minlength=VOCAB)
    found = baselines(meta(120), train, validation, counts, texts, ngram_order=3)
    assert found == {
        "uniform": pytest.approx(60 * math.log2(VOCAB) / 120),
        "unigram": pytest.approx(unigram_bits(validation, counts) / 120),
        "xz": xz_bits(texts, 120) / 120,
        "3-gram": pytest.approx(ngram_losses(train, validation, 3, VOCAB).sum() / math.log(2) / 120),
    }
    assert list(found) == ["uniform", "unigram", "xz", "3-gram"]


def test_an_order_of_0_is_no_ngram_model():
    found = baselines(meta(9), tokens(50), tokens(9), np.ones(VOCAB, int), ["a" * 9], ngram_order=0)
    assert list(found) == ["uniform", "unigram", "xz"]


def test_the_gap_is_closed_by_a_model_at_the_entropy_and_open_at_the_ngrams():
    assert gap_closed(ngram=0.5, model=0.5, entropy=0.2) == 0
    assert gap_closed(ngram=0.5, model=0.2, entropy=0.2) == 1
    assert gap_closed(ngram=0.5, model=0.275, entropy=0.2) == pytest.approx(0.75)
