"""Confidence intervals and tests."""

import math
from statistics import NormalDist

# Standard errors on each side of a 95 % interval.
Z_95 = NormalDist().inv_cdf(0.975)


def wilson_interval(successes: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927); it lies in [0, 1] and holds for few trials."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    center = successes + z**2 / 2
    margin = z * math.sqrt(successes * (trials - successes) / trials + z**2 / 4)
    return (center - margin) / (trials + z**2), (center + margin) / (trials + z**2)


def sign_test(wins: int, losses: int) -> float:
    """Return the exact two-sided p-value of this many wins and losses if both are equally likely."""
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    p: float = 2 * tail / 2**n
    return min(1.0, p)


def ratio_standard_error(sum_of_squares: float, total: float, n: int) -> float:
    """Return the standard error of a ratio R = Σx / Σy over n > 1 pairs (x, y).

    It is √(n/(n−1) · Σ(x − Ry)²) / Σy, by the delta method (Cochran 1977, Sampling Techniques, chapter 6).
    `sum_of_squares` is Σ(x − Ry)², `total` is Σy.
    """
    return math.sqrt(sum_of_squares * n / (n - 1)) / total
