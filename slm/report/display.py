"""How tokens, their probabilities and pictures of them are shown."""

from math import log10

VISIBLE = {"\n": "↵", "\t": "→", "\r": "␍"}
END_OF_TEXT, END_SIGN = "<|endoftext|>", "∎"
MOST_SURPRISE = 3.0
DPI = 150  # of the pictures
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def shown(token: str, keep: str = "") -> str:
    """A token in which what has no sign of its own can be seen; characters to `keep` stay as they are."""
    token = token.replace(END_OF_TEXT, END_SIGN)
    return "".join(c if c in keep else VISIBLE.get(c, c) for c in token)


def surprise(probability: float) -> float:
    """How unexpected a token is, in powers of ten: 0 if it was certain, 3 for one in a thousand or fewer."""
    return min(MOST_SURPRISE, log10(1 / max(probability, 1e-9)))


def percent(share: float) -> str:
    """A share in as many digits as tell something: 51%, 2.6%, 0.043%."""
    if share >= 0.0995:
        return f"{share:.0%}"
    return f"{share:.1%}" if share >= 0.00995 else f"{100 * share:.2g}%"


def millions(number: int) -> str:
    """Return a number of parameters or tokens in words: 917,504, 30 million."""
    if number < 1e6:
        return f"{number:,}"
    return f"{number / 1e6:,.3g} million" if number < 1e9 else f"{number / 1e9:,.3g} billion"


def power_of_ten(number: float) -> str:
    """Return a large number in scientific notation: 3.1 · 10¹³."""
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa} · 10{str(int(exponent)).translate(SUPERSCRIPTS)}"
