"""Tests of the format of tokens, fractions, probabilities and numbers."""

import pytest

from slm.report.display import millions, percent, power_of_ten, surprisal, visible


def test_visible_replaces_invisible_characters():
    assert visible("\n a\tb<|endoftext|>") == "↵ a→b∎"
    assert visible("a\nb", keep="\n") == "a\nb"


@pytest.mark.parametrize("fraction, text", [
    (1, "100%"), (0.9951, "100%"), (0.504, "50%"), (0.0996, "10%"), (0.0994, "9.9%"), (0.026, "2.6%"),
    (0.00996, "1.0%"), (0.00994, "0.99%"), (0.00043, "0.043%"), (0, "0%"), (-0.3, "-30%"),
    (-1.94, "-194%"), (-0.026, "-2.6%"),
])  # fmt: skip
def test_percent_has_two_significant_digits(fraction, text):
    assert percent(fraction) == text


def test_surprisal_is_the_negative_log10_up_to_three():
    assert [surprisal(p) for p in (1.0, 0.1, 0.01, 0.001, 1e-5, 0.0)] == pytest.approx([0, 1, 2, 3, 3, 3])


def test_millions_has_words_for_large_numbers():
    numbers = [millions(n) for n in (917_504, 29_995_392, 3_000_000_000)]
    assert numbers == ["917,504", "30 million", "3 billion"]


def test_power_of_ten_is_scientific_notation():
    assert power_of_ten(30_940_000_000_000) == "3.1 · 10¹³"
