"""Check whether a story of the grammar contradicts itself, from its text alone.

Each sentence is matched with the sentences that the plot can tell, with any names, things and places. So its
words are assigned to roles: the hero, a friend, the lost thing. A story is consistent if all statements about
each role agree: nobody changes name or sex, no thing its look, owner or place, and the story ends well. A
sentence that matches nothing states nothing; a story with many of them is rejected.
"""

import re
from collections import ChainMap, Counter
from collections.abc import MutableMapping
from typing import NamedTuple

from storygrammar.checker.facts import PRONOUNS, Fact, facts
from storygrammar.checker.sentences import OWNER, Reading, readings, split
from storygrammar.grammar.words import AFRAID, CROSS, LONELY, SAD, SORRY

# The roles of the hero, a friend and another character.
PEOPLE = ("h", "f", "k")
# Names of roles in messages.
ROLES = {
    "c": "clothes", "d": "food", "d2": "food", "g": "grown-up", "t": "thing", "u": "thing", "seen": "memory",
    "bad": "feeling", "look": "key", "part": "looks", "hole": "trap", "free": "balloon", "spot": "place",
    "high": "place", "hide": "place", "corner": "place", "far": "place",
}  # fmt: skip
# Roles that may change without a contradiction: "one day" may become "all afternoon".
MAY_CHANGE = ("time", "n")
# Fraction of the sentences that may belong to no sentence of the plot.
MAX_STRAY_FRACTION = 1 / 8
# The feelings of one list mean much the same.
BAD_FEELINGS = (SAD, AFRAID, SORRY, LONELY, CROSS)
BAD_FEELING = re.compile(rf"\b({'|'.join(word for words in BAD_FEELINGS for word in words)})\b")
# Not after a quotation mark: "Will you play?"
NAME = re.compile(r"(?:^|(?<=[a-z,] ))[A-Z][a-z]+")

# The first fact of each (role, attribute).
Known = MutableMapping[tuple[str, str], Fact]


class Findings(NamedTuple):
    """Contradictions, in short sentences, and the sentences that the plot does not have."""

    contradictions: list[str]
    stray_sentences: list[str]


class ParsedStory(NamedTuple):
    """A story that was read; `plot` is "" if no sentence matches one."""

    plot: str
    known: Known
    findings: Findings


def find_contradictions(text: str) -> list[str]:
    """Return the contradictions of a story, in short sentences; none if it is consistent."""
    return check(text).contradictions


def check(text: str) -> Findings:
    """Return the contradictions and the stray sentences of a story."""
    return read_story(text).findings


def read_story(text: str) -> ParsedStory:
    """Read a story as the plot that has most of its sentences."""
    story = [(sentence, readings(sentence)) for sentence in split(text.strip())]
    plots = Counter(plot for _, found in story for plot in {plot for r in found for plot in r.kind.branches})
    plot = max(sorted(plots), key=lambda plot: plots[plot], default="")
    introduced = set(re.findall(r"(?:named|call it) ([A-Z]\w+)", text))
    known: Known = {}
    contradictions: list[str] = []
    stray_sentences: list[str] = []
    for sentence, found in story:
        if in_plot := [reading for reading in found if plot in reading.kind.branches]:
            contradictions += _learn(known, in_plot, plot, introduced)
        else:
            stray_sentences.append(sentence)
            names = [name for name in NAME.findall(sentence) if name in PRONOUNS]
            contradictions += [f"{name} comes from nowhere" for name in names if name not in introduced]
    if len(stray_sentences) > MAX_STRAY_FRACTION * len(story):
        n = f"{len(stray_sentences)} of {len(story)}"
        contradictions.append(f"{n} sentences do not belong to the story: {stray_sentences[0]}")
    return ParsedStory(plot, known, Findings(list(dict.fromkeys(contradictions)), stray_sentences))


def _learn(known: Known, in_plot: list[Reading], plot: str, introduced: set[str]) -> list[str]:
    """Add the facts of a sentence to the known ones; return the contradictions.

    Of several readings, the one with the fewest words in groups counts, then the one that agrees best.
    """
    ranked = []
    for reading in in_plot:
        told = sorted(facts(reading, plot), key=lambda fact: bool(fact.attribute))
        wrong = _disagreements(known, told, reading, introduced)
        ranked.append((sum(len(words) for *_, words in reading.told), len(wrong), wrong, told))
    *_, wrong, told = min(ranked, key=lambda ranked: ranked[:2])
    for fact in told:
        known.setdefault((fact.role, fact.attribute), fact)
    return wrong


def _disagreements(known: Known, told: list[Fact], reading: Reading, introduced: set[str]) -> list[str]:
    """Return what contradicts earlier facts or cannot be; for each role only the first."""
    known = ChainMap({}, known)
    wrong: dict[str, str] = {}
    for fact in told:
        before = known.setdefault((fact.role, fact.attribute), fact)
        if fact.role in wrong or fact.role in MAY_CHANGE:
            continue
        if fact is before:
            complaint = _about_new(fact, known, reading, introduced)
        else:
            complaint = "" if _agree(before, fact) else _about_changed(before, fact, known, introduced)
        if complaint:
            wrong[fact.role] = complaint
    return list(wrong.values())


def _agree(one: Fact, other: Fact) -> bool:
    """Return whether two facts agree. Bad feelings of one list do; a word that is no feeling was misread."""
    values = {one.value, other.value}
    if one.role == "bad" and all(map(BAD_FEELING.search, values)):
        return any(values <= set(words) for words in BAD_FEELINGS)
    return one.role == "bad" or len(values) == 1


def _about_new(fact: Fact, known: Known, reading: Reading, introduced: set[str]) -> str:
    """Return what is wrong with a fact about something new; mostly nothing."""
    role, attribute, value, words = fact
    if role == OWNER and value != attribute:
        return f"“{value}” instead of “{attribute}”: {reading.sentence}"
    if role == "good" and BAD_FEELING.search(words):
        return f"it does not end well: {reading.sentence}"
    if role in PEOPLE and not attribute:
        if any(known[other, ""].value == value for other in PEOPLE if other != role and (other, "") in known):
            return f"two are called {value}"
        if role not in reading.kind.first and value not in introduced:
            return f"{value} comes from nowhere"
    return ""


def _about_changed(before: Fact, now: Fact, known: Known, introduced: set[str]) -> str:
    """Return the contradiction between two facts, in words."""
    role, attribute = now.role, now.attribute
    it = known[role, ""].value if (role, "") in known else "it"
    if role == "branch":
        return f"“{now.words}” does not go with “{before.words}”"
    if role == "p":
        return f"“{now.words}” belongs to {now.value}, but this is {before.value}"
    if attribute == "kind":
        return f"{it} is a {before.value}, then a {now.value}"
    if attribute == "pronoun":
        return f"{it} is “{before.value}”, then “{now.value}”"
    if attribute == "look":
        return f"the {it} is {before.value}, then {now.value}"
    if attribute == "use":
        return f"the {it} is there to {before.value}, then to {now.value}"
    if role in PEOPLE:
        return f"{before.value} is {'mixed up with' if now.value in introduced else 'called'} {now.value}"
    return f"the {ROLES.get(role, role)}: first “{before.words}”, then “{now.words}”"
