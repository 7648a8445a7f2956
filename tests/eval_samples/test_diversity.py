"""Counts of words and n-grams, against counts by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm.eval_samples.quality import distinct, ngrams, self_bleu_4, seq_rep_4, words

TEXTS = st.lists(st.lists(st.sampled_from("ab"), max_size=12), min_size=1, max_size=5)


def test_words_are_runs_of_letters_whatever_their_case():
    assert words("Don't stop: 3 Äpfel, snake_case!") == ["don", "t", "stop", "äpfel", "snake", "case"]
    assert words("STRASSE") == words("straße") == ["strasse"]
    assert words("… 42 \ufffd\n") == []


def test_ngrams_are_all_runs_of_n():
    assert ngrams(["a", "b", "a", "b"], 2) == [("a", "b"), ("b", "a"), ("a", "b")]
    assert ngrams(["a", "b"], 3) == []


def test_distinct_is_kinds_of_ngrams_over_words():
    texts = [["the", "cat", "sat"], ["the", "cat", "ran", "away"]]
    assert distinct(texts, 1) == 5 / 7
    assert distinct(texts, 2) == 4 / 7  # none from the end of one text to the beginning of the next


def test_distinct_halves_when_everything_is_said_twice():
    texts = [["the", "cat", "sat"], ["a", "dog", "ran", "away"]]
    for n in (1, 2):
        assert distinct(texts * 2, n) == distinct(texts, n) / 2


def test_repetition_is_the_share_of_4_grams_that_were_there_before():
    assert seq_rep_4(list("abcdabcd")) == 1 / 5
    assert seq_rep_4(["so"] * 13) == 9 / 10
    assert seq_rep_4(list("abcdef")) == 0


def test_self_bleu_4_is_the_share_of_4_grams_that_others_have():
    one, two, three = list("abcde"), list("bcdefg"), list("vwxyz")
    assert self_bleu_4([one, two, three]) == pytest.approx((1 / 2 + 1 / 3 + 0) / 3)
    assert self_bleu_4([one, one]) == 1
    assert self_bleu_4([["so"] * 9, three]) == 0  # it says the same again, but no other does


@given(texts=TEXTS)
def test_self_bleu_4_is_that_of_comparing_each_text_with_all_others(texts):
    expected = 0.0
    for number, text in enumerate(texts):
        others = [gram for other in texts[:number] + texts[number + 1 :] for gram in ngrams(other, 4)]
        grams = ngrams(text, 4)
        expected += sum(gram in others for gram in grams) / max(len(grams), 1)
    assert self_bleu_4(texts) == pytest.approx(expected / len(texts))


def test_a_share_of_nothing_is_0():
    assert distinct([[], []], 1) == distinct([["a"]], 2) == seq_rep_4(["a"] * 3) == 0
    assert self_bleu_4([[], ["a"]]) == self_bleu_4([["a", "b", "c", "d"]]) == 0
