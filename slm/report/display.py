"""How the report and the figures write tokens, probabilities and numbers."""

from math import log10

# Signs for characters that would be invisible.
VISIBLE = {"\n": "↵", "\t": "→", "\r": "␍"}
END_OF_TEXT, END_SIGN = "<|endoftext|>", "∎"
# Powers of ten: a probability of one in a thousand or less has the strongest color.
MAX_SURPRISAL = 3.0
# Pixels per inch of the figures.
DPI = 150
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def visible(token: str, keep: str = "") -> str:
    """Return a token with signs for invisible characters, except for those in `keep`."""
    token = token.replace(END_OF_TEXT, END_SIGN)
    return "".join(c if c in keep else VISIBLE.get(c, c) for c in token)


def shorten(text: str, max_length: int) -> str:
    """Cut a text to a length in characters, with … at the end if it was longer."""
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


def surprisal(probability: float) -> float:
    """Return −log₁₀ of a probability, at most MAX_SURPRISAL."""
    return min(MAX_SURPRISAL, log10(1 / max(probability, 1e-9)))


def percent(share: float) -> str:
    """Return a share with two significant digits: 51%, 2.6%, 0.043%."""
    if abs(share) >= 0.0995:
        return f"{share:.0%}"
    return f"{share:.1%}" if abs(share) >= 0.00995 else f"{100 * share:.2g}%"


def millions(number: int) -> str:
    """Return a number of parameters or tokens in words: 917,504, 30 million."""
    if number < 1e6:
        return f"{number:,}"
    return f"{number / 1e6:,.3g} million" if number < 1e9 else f"{number / 1e9:,.3g} billion"


def power_of_ten(number: float) -> str:
    """Return a large number in scientific notation: 3.1 · 10¹³."""
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa} · 10{str(int(exponent)).translate(SUPERSCRIPTS)}"
