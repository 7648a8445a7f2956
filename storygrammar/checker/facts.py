"""Facts that a sentence of a story states, to compare with those of other sentences."""

from collections.abc import Iterator
from typing import NamedTuple

from storygrammar.checker.sentences import OWNER, SentenceMatch
from storygrammar.grammar.cast import CHARACTERS
from storygrammar.grammar.words import LOOKS, PLACES, THINGS

PRONOUNS = {"his": "he", "her": "she", "boy": "he", "girl": "she"} | {
    name: pronoun for names, _, pronoun in CHARACTERS for name in names
}
CHARACTER_PRONOUNS = {"He": "he", "him": "he", "She": "she", "her": "she"}
PLACE_OF = {spot: place for place, spots in PLACES.items() for spot in spots}


class Fact(NamedTuple):
    """Something that a sentence states about a role.

    `attribute` is "" for who or what it is, or "kind", "pronoun", "look" or "use". `words` state it.
    """

    role: str
    attribute: str
    value: str
    words: str


def facts(match: SentenceMatch, plot: str) -> Iterator[Fact]:
    """Yield the facts that a sentence of a story with this plot states, if this match is the right one."""
    roles = {role for role, _, _ in match.groups}
    for role, form, words in match.groups:
        if role == "g" and "g" in match.pattern.new_roles:
            # The grown-up that the hero lives with need not be the one who comes along later.
            continue
        if form == "kind":
            yield Fact(role, "kind", words, words)
        if form in ("his", "His", "kind"):
            if words.lower() in PRONOUNS:
                yield Fact(role, "pronoun", PRONOUNS[words.lower()], words)
        elif words in CHARACTER_PRONOUNS:
            yield Fact(role, "pronoun", CHARACTER_PRONOUNS[words], words)
        elif form == "use" or role == OWNER:
            yield Fact(role, form, words, words)
        elif form != "deed":
            yield from _who_or_what(role, words.lower() if form == "Name" else words)
            # The clothes, to which something happens, are then what the ending may refer to as {seen}.
            if role == "c" and "news" in roles:
                yield Fact("seen", "", words, words)
    branches = match.pattern.branches[plot]
    if len(branches) == 1 and None not in branches:
        [branch] = branches
        yield Fact("branch", "", str(branch), match.sentence)


def _who_or_what(role: str, words: str) -> Iterator[Fact]:
    """Yield what "Tom", "a red drum" or "under the bridge" states about its role; some words imply more."""
    noun = words.removeprefix("a ").removeprefix("an ")
    first, _, rest = noun.partition(" ")
    look = first if rest and first in LOOKS else ""
    noun = rest if look else noun
    yield Fact(role, "", noun, words)
    if look:
        yield Fact(role, "look", look, words)
    if noun in PRONOUNS:
        yield Fact(role, "pronoun", PRONOUNS[noun], words)
    if noun in THINGS:
        yield Fact(role, "use", THINGS[noun], words)
    if noun in PLACE_OF:
        yield Fact("p", "", PLACE_OF[noun], words)
