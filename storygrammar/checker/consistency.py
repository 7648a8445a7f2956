"""Check whether a story of the grammar contradicts itself, from its text alone.

Each sentence is matched with those that the plot can generate, with any names, things and places. This
assigns its words to roles: the hero, a friend, the lost thing. A story is consistent if all statements about
each role agree: nobody changes name or sex, no thing its look, owner or place, and the story ends well. A
sentence that matches nothing states nothing; a story with many of them is rejected.
"""

import re
from collections import ChainMap, Counter
from collections.abc import MutableMapping
from typing import NamedTuple

from storygrammar.checker.facts import PRONOUNS, Fact, facts
from storygrammar.checker.sentences import OWNER, SentenceMatch, match_sentence, split_sentences
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
    """The contradictions of a story, in words, and its stray sentences: those that match none of its plot."""

    contradictions: list[str]
    stray_sentences: list[str]


class ParsedStory(NamedTuple):
    """What the checker read in a story: its plot ("" if no sentence matches one), facts and findings."""

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
    """Return the facts of a story, read as one of the plot that matches most of its sentences."""
    story = [(sentence, match_sentence(sentence)) for sentence in split_sentences(text.strip())]
    # Count for each plot the sentences that match it.
    counts = Counter(
        plot for _, matches in story for plot in {p for m in matches for p in m.pattern.branches}
    )
    plot = max(sorted(counts), key=lambda plot: counts[plot], default="")
    introduced = set(re.findall(r"(?:named|call it) ([A-Z]\w+)", text))
    known: Known = {}
    contradictions: list[str] = []
    stray_sentences: list[str] = []
    for sentence, matches in story:
        if in_plot := [match for match in matches if plot in match.pattern.branches]:
            contradictions += _add_facts(known, in_plot, plot, introduced)
        else:
            stray_sentences.append(sentence)
            names = [name for name in NAME.findall(sentence) if name in PRONOUNS]
            contradictions += [f"{name} comes from nowhere" for name in names if name not in introduced]
    if len(stray_sentences) > MAX_STRAY_FRACTION * len(story):
        n = f"{len(stray_sentences)} of {len(story)}"
        contradictions.append(f"{n} sentences do not belong to the story: {stray_sentences[0]}")
    return ParsedStory(plot, known, Findings(list(dict.fromkeys(contradictions)), stray_sentences))


def _add_facts(known: Known, matches: list[SentenceMatch], plot: str, introduced: set[str]) -> list[str]:
    """Add the facts of a sentence to the known ones; return the contradictions.

    Of several matches, the one with the fewest letters in groups is used, then the one with the fewest
    contradictions.
    """
    ranked = []
    for match in matches:
        stated = sorted(facts(match, plot), key=lambda fact: bool(fact.attribute))
        contradictions = _contradictions(known, stated, match, introduced)
        n_letters = sum(len(words) for *_, words in match.groups)
        ranked.append((n_letters, len(contradictions), contradictions, stated))
    *_, contradictions, stated = min(ranked, key=lambda ranked: ranked[:2])
    for fact in stated:
        known.setdefault((fact.role, fact.attribute), fact)
    return contradictions


def _contradictions(
    known: Known, stated: list[Fact], match: SentenceMatch, introduced: set[str]
) -> list[str]:
    """Return contradictions to earlier facts, and facts that are impossible; for each role only the first."""
    # The facts of this sentence are compared with each other, too, but not stored yet.
    known = ChainMap({}, known)
    by_role: dict[str, str] = {}
    for fact in stated:
        before = known.setdefault((fact.role, fact.attribute), fact)
        if fact.role in by_role or fact.role in MAY_CHANGE:
            continue
        if fact is before:
            contradiction = _check_new(fact, known, match, introduced)
        else:
            contradiction = "" if _agree(before, fact) else _describe_change(before, fact, known, introduced)
        if contradiction:
            by_role[fact.role] = contradiction
    return list(by_role.values())


def _agree(one: Fact, other: Fact) -> bool:
    """Return whether two facts agree.

    Bad feelings agree if one list contains both. A word that is not a feeling was matched wrongly: ignore it.
    """
    values = {one.value, other.value}
    if one.role == "bad" and all(map(BAD_FEELING.search, values)):
        return any(values <= set(words) for words in BAD_FEELINGS)
    return one.role == "bad" or len(values) == 1


def _check_new(fact: Fact, known: Known, match: SentenceMatch, introduced: set[str]) -> str:
    """Return the contradiction of the first fact about something, "" if there is none."""
    role, attribute, value, words = fact
    if role == OWNER and value != attribute:
        return f"“{value}” instead of “{attribute}”: {match.sentence}"
    if role == "good" and BAD_FEELING.search(words):
        return f"it does not end well: {match.sentence}"
    if role in PEOPLE and not attribute:
        if any(known[other, ""].value == value for other in PEOPLE if other != role and (other, "") in known):
            return f"two are called {value}"
        if role not in match.pattern.new_roles and value not in introduced:
            return f"{value} comes from nowhere"
    return ""


def _describe_change(before: Fact, now: Fact, known: Known, introduced: set[str]) -> str:
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
