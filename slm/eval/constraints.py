"""Does a story grant what was wished for? It is read as plain text, as consistency.py reads it.

A wish that most stories grant says little of a model. So each kind of wish has a chance beside it: how often
the same stories grant what others wished for, over all pairs of a story and another request's wish of that
kind. Kinds of which the chance is above TOO_LIKELY do not count.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from slm.eval.intervals import wilson
from storygrammar.checker.consistency import read
from storygrammar.grammar.words import GOOD
from storygrammar.requests.wishes import KINDS

TOO_LIKELY = 0.3
ANSWERS = ("summary", "question")  # kinds that have one right answer, word for word

Asked = tuple[Mapping[str, str], str]  # wishes, kind → value, and the text that should grant them


class KindScore(NamedTuple):
    """How often wishes of a kind were granted: a row of the table."""

    kind: str
    wishes: int
    met: float
    chance: float

    @property
    def counts(self) -> bool:
        """Whether it is a wish for a story that chance would not grant."""
        return self.kind in KINDS and self.chance <= TOO_LIKELY


def granted(text: str) -> dict[str, set[str]]:
    """For each kind, the values of the wishes that a text grants."""
    plot, known, _ = read(text)

    def told(attribute: str, *roles: str) -> set[str]:
        return {known[role, attribute].value for role in roles if (role, attribute) in known}

    things = [role for role in ("t", "u") if (role, "look") in known]
    return {
        "name": told("", "h"),
        "hero": told("kind", "h"),
        "plot": {plot},
        "thing": told("", "t", "u"),
        "look": {f"{known[role, 'look'].value} {known[role, ''].value}" for role in things},
        "food": told("", "d", "d2", "seen"),
        "place": told("", "p"),
        "friend": told("", "f"),
        "clothes": told("", "c"),
        "weather": told("", "weather"),
        "hobby": told("", "hobby"),
        "feeling": told("", "good"),
        "word": set(re.findall("[a-z]+", text)),
        "ending": {"well"} if told("", "good") & set(GOOD) else set(),
        **{kind: {text.strip()} for kind in ANSWERS},
    }


def score(asked: Sequence[Asked]) -> list[KindScore]:
    """Each kind that at least two of the requests wish for."""
    grants, rows = [granted(text) for _, text in asked], []
    for kind in (*KINDS, *ANSWERS):
        numbers = [number for number, (wishes, _) in enumerate(asked) if kind in wishes]
        values = [asked[number][0][kind] for number in numbers]
        if (n := len(numbers)) > 1:
            met = np.array(
                [[value in grants[number][kind] for value in values] for number in numbers]
            )  # (n, n)
            own = int(met.trace())  # of (n, n); the others are of a text and another's wish
            rows.append(KindScore(kind, n, own / n, (int(met.sum()) - own) / (n * n - n)))
    return rows


def summary(rows: Sequence[KindScore]) -> dict[str, Any]:
    """The wishes met of all that count, as a share with its 95 % interval; the share of right answers."""
    found: dict[str, Any] = {}
    counted = [row for row in rows if row.counts]
    answers = [row for row in rows if row.kind in ANSWERS]
    for name, of in (("constraint_acc", counted), ("exact_match", answers)):
        if n := sum(row.wishes for row in of):
            met = sum(row.met * row.wishes for row in of)
            found |= {name: met / n, f"{name}_ci95": list(wilson(met, n)), f"{name}_n": n}
    return found
