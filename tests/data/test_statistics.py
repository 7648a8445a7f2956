"""Confidence intervals and the sign test, compared with published values and their definitions."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm.data.statistics import sign_test, wilson_interval


@pytest.mark.parametrize("successes, trials, low, high", [
    (81, 263, 0.2553, 0.3662),  # Table I of Newcombe 1998, "Two-sided confidence intervals for the single
    (15, 148, 0.0624, 0.1605),  # proportion", method 3
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
])  # fmt: skip
def test_wilson_interval_matches_published_values(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_interval_ends_are_z_standard_errors_away(trials, data):
    successes = data.draw(st.integers(0, trials))
    share = successes / trials
    # By definition, |successes / trials - p| is z standard errors of p.
    for end in wilson_interval(successes, trials):
        assert -1e-12 <= end <= 1 + 1e-12
        assert (share - end) ** 2 == pytest.approx(1.959963985**2 * end * (1 - end) / trials, abs=1e-9)


@pytest.mark.parametrize("wins, losses, p", [
    # Darwin's maize; Fisher 1935 states 121 of 16,384.
    (13, 2, 0.00739),
    # Computed by hand as 2 × 16,664 of 524,288.
    (14, 5, 0.06357),
    (5, 5, 1.0),
    (0, 1, 1.0),
    (82, 0, 2**-81),  # Arbuthnot 1710, on both sides
])  # fmt: skip
def test_sign_test_matches_published_p_values(wins, losses, p):
    assert sign_test(wins, losses) == pytest.approx(p, rel=1e-3)
    assert sign_test(losses, wins) == sign_test(wins, losses)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_sign_test_matches_enumeration(n):
    for wins in range(n + 1):
        lead = abs(2 * wins - n)
        tosses = [abs(sum(toss)) >= lead for toss in product((-1, 1), repeat=n)]
        assert sign_test(wins, n - wins) == sum(tosses) / len(tosses)
