"""Words, n-grams and diversity metrics, compared with counts by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm.eval_samples.metrics import distinct, ngrams, self_bleu_4, seq_rep_4, words

TEXTS = st.lists(st.lists(st.sampled_from("ab"), max_size=12), min_size=1, max_size=5)


def test_words_are_case_folded_runs_of_letters():
    assert words("Don't stop: 3 Äpfel, snake_case!") == ["don", "t", "stop", "äpfel", "snake", "case"]
    assert words("STRASSE") == words("straße") == ["strasse"]
    assert words("… 42 \ufffd\n") == []


def test_ngrams_are_all_runs_of_n_items():
    assert ngrams(["a", "b", "a", "b"], 2) == [("a", "b"), ("b", "a"), ("a", "b")]
    assert ngrams(["a", "b"], 3) == []


def test_distinct_divides_ngram_types_by_words():
    texts = [["the", "cat", "sat"], ["the", "cat", "ran", "away"]]
    assert distinct(texts, 1) == 5 / 7
    # No n-gram crosses from one text to the next.
    assert distinct(texts, 2) == 4 / 7


def test_distinct_halves_for_duplicated_texts():
    texts = [["the", "cat", "sat"], ["a", "dog", "ran", "away"]]
    for n in (1, 2):
        assert distinct(texts * 2, n) == distinct(texts, n) / 2


def test_seq_rep_4_counts_repeated_4_grams():
    assert seq_rep_4(list("abcdabcd")) == 1 / 5
    assert seq_rep_4(["so"] * 13) == 9 / 10
    assert seq_rep_4(list("abcdef")) == 0


def test_self_bleu_4_counts_4_grams_shared_with_other_texts():
    one, two, three = list("abcde"), list("bcdefg"), list("vwxyz")
    assert self_bleu_4([one, two, three]) == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
    assert self_bleu_4([one, one]) == 1
    # A repetition within one text does not count.
    assert self_bleu_4([["so"] * 9, three]) == 0


@given(texts=TEXTS)
def test_self_bleu_4_matches_pairwise_comparison(texts):
    expected = 0.0
    for number, text in enumerate(texts):
        others = [gram for other in texts[:number] + texts[number + 1 :] for gram in ngrams(other, 4)]
        grams = ngrams(text, 4)
        expected += sum(gram in others for gram in grams) / max(len(grams), 1)
    assert self_bleu_4(texts) == pytest.approx(expected / len(texts))


def test_diversity_of_short_texts_is_0():
    assert distinct([[], []], 1) == distinct([["a"]], 2) == seq_rep_4(["a"] * 3) == 0
    assert self_bleu_4([[], ["a"]]) == self_bleu_4([["a", "b", "c", "d"]]) == 0
