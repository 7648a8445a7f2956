"""Tokens, shares and probabilities as the report shows them."""

import pytest

from slm.report.display import millions, percent, power_of_ten, surprisal, visible


def test_invisible_characters_of_a_token_have_a_sign():
    assert visible("\n a\tb<|endoftext|>") == "↵ a→b∎"
    assert visible("a\nb", keep="\n") == "a\nb"


@pytest.mark.parametrize("share, text", [
    (1, "100%"), (0.9951, "100%"), (0.504, "50%"), (0.0996, "10%"), (0.0994, "9.9%"), (0.026, "2.6%"),
    (0.00996, "1.0%"), (0.00994, "0.99%"), (0.00043, "0.043%"), (0, "0%"), (-0.3, "-30%"),
    (-1.94, "-194%"), (-0.026, "-2.6%"),
])  # fmt: skip
def test_percent_has_two_significant_digits(share, text):
    assert percent(share) == text


def test_surprisal_is_the_negative_logarithm_up_to_three():
    assert [surprisal(p) for p in (1.0, 0.1, 0.01, 0.001, 1e-5, 0.0)] == pytest.approx([0, 1, 2, 3, 3, 3])


def test_large_numbers_have_words_or_powers_of_ten():
    numbers = [millions(n) for n in (917_504, 29_995_392, 3_000_000_000)]
    assert numbers == ["917,504", "30 million", "3 billion"]
    assert power_of_ten(30_940_000_000_000) == "3.1 · 10¹³"
