"""Format tokens, probabilities and numbers for the report and the figures."""

from math import log10

# Signs for characters that would be invisible.
VISIBLE = {"\n": "↵", "\t": "→", "\r": "␍"}
END_OF_TEXT, END_SIGN = "<|endoftext|>", "∎"
# Surprisal in powers of ten that has the strongest color: a probability of 0.1 % or less.
MAX_SURPRISAL = 3.0
# Resolution of the figures in pixels per inch.
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


def percent(fraction: float) -> str:
    """Return a fraction as a percentage with two significant digits: 51%, 2.6%, 0.043%."""
    if abs(fraction) >= 0.0995:
        return f"{fraction:.0%}"
    return f"{fraction:.1%}" if abs(fraction) >= 0.00995 else f"{100 * fraction:.2g}%"


def millions(number: int) -> str:
    """Return a number of parameters or tokens: 917,504, 30 million, 1.5 billion."""
    if number < 1e6:
        return f"{number:,}"
    return f"{number / 1e6:,.3g} million" if number < 1e9 else f"{number / 1e9:,.3g} billion"


def power_of_ten(number: float) -> str:
    """Return a large number in scientific notation: 3.1 · 10¹³."""
    mantissa, exponent = f"{number:.1e}".split("e")
    return f"{mantissa} · 10{str(int(exponent)).translate(SUPERSCRIPTS)}"
