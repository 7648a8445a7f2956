"""Check which constraints of its prompt a story satisfies.

The story is read as plain text by the grammar's checker. A constraint that most stories satisfy says little
about a model. So each kind has a chance level: how often the same stories satisfy the constraints of the
other prompts, over all pairs of a story and another prompt with a constraint of that kind. Kinds with a
chance level above MAX_CHANCE do not count.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from slm.data.statistics import wilson_interval
from storygrammar.checker.consistency import read_story
from storygrammar.grammar.words import GOOD
from storygrammar.prompts.constraints import KINDS

MAX_CHANCE = 0.3
# Kinds of prompts that have one right answer, word for word.
EXACT_KINDS = ("summary", "question")


class KindScore(NamedTuple):
    """How often constraints of one kind are satisfied; a row of constraints.csv."""

    kind: str
    constraints: int
    satisfied: float
    chance: float

    @property
    def counts(self) -> bool:
        """Return whether the kind is a constraint on stories that chance rarely satisfies."""
        return self.kind in KINDS and self.chance <= MAX_CHANCE


def satisfied_values(text: str) -> dict[str, set[str]]:
    """Return for each kind the values of the constraints that a text satisfies."""
    plot, known, _ = read_story(text)

    def values(attribute: str, *roles: str) -> set[str]:
        return {known[role, attribute].value for role in roles if (role, attribute) in known}

    things = [role for role in ("t", "u") if (role, "look") in known]
    return {
        "name": values("", "h"),
        "hero": values("kind", "h"),
        "plot": {plot},
        "thing": values("", "t", "u"),
        "look": {f"{known[role, 'look'].value} {known[role, ''].value}" for role in things},
        "food": values("", "d", "d2", "seen"),
        "place": values("", "p"),
        "friend": values("", "f"),
        "clothes": values("", "c"),
        "weather": values("", "weather"),
        "hobby": values("", "hobby"),
        "feeling": values("", "good"),
        "word": set(re.findall("[a-z]+", text)),
        "ending": {"well"} if values("", "good") & set(GOOD) else set(),
        **{kind: {text.strip()} for kind in EXACT_KINDS},
    }


def score(answers: Sequence[tuple[Mapping[str, str], str]]) -> list[KindScore]:
    """Score pairs of constraints (kind → value) and an answer; a kind needs at least two constraints."""
    values_of, scores = [satisfied_values(text) for _, text in answers], []
    for kind in (*KINDS, *EXACT_KINDS):
        numbers = [number for number, (constraints, _) in enumerate(answers) if kind in constraints]
        values = [answers[number][0][kind] for number in numbers]
        if (n := len(numbers)) > 1:
            # (n, n): does answer i satisfy the constraint of prompt j? The diagonal is its own.
            matrix = np.array([[value in values_of[number][kind] for value in values] for number in numbers])
            own = int(matrix.trace())
            scores.append(KindScore(kind, n, own / n, (int(matrix.sum()) - own) / (n * n - n)))
    return scores


def summarize(scores: Sequence[KindScore]) -> dict[str, Any]:
    """Return constraint accuracy and exact match, each with its 95 % interval and its count."""
    result: dict[str, Any] = {}
    counted = [score for score in scores if score.counts]
    exact = [score for score in scores if score.kind in EXACT_KINDS]
    for name, kinds in (("constraint_acc", counted), ("exact_match", exact)):
        if n := sum(score.constraints for score in kinds):
            satisfied = sum(score.satisfied * score.constraints for score in kinds)
            result |= {
                name: satisfied / n,
                f"{name}_ci95": list(wilson_interval(satisfied, n)),
                f"{name}_count": n,
            }
    return result
