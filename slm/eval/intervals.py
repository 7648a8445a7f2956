"""What a share, counted in some trials, says of the chance behind it."""

import math
from statistics import NormalDist


def wilson(successes: float, trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927): it stays within 0 and 1, and holds for few trials too."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    center = successes + z**2 / 2
    margin = z * math.sqrt(successes * (trials - successes) / trials + z**2 / 4)
    return (center - margin) / (trials + z**2), (center + margin) / (trials + z**2)


def sign_test(wins: int, losses: int) -> float:
    """How often fair coins would come out at least as one-sided as this, on either side: the exact p."""
    n = wins + losses
    tail = sum(math.comb(n, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**n)
