"""Minimal pairs: two texts that differ in a word or two, of which the grammar generates only the first.

A language model that assigns the higher probability to the first has learned the difference: a rule of
English, or a fact that the story stated (BLiMP, Warstadt et al. 2020).

A pair is the beginning of a story up to the end of the sentence that differs. Both have equally many words.
"""

import re
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from storygrammar.grammar.cast import CHARACTERS
from storygrammar.grammar.generator import tell_story
from storygrammar.grammar.teller import Teller
from storygrammar.grammar.words import LOOKS, PLACES, THINGS

SENTENCE = re.compile(r'.*?[.!?]"?(?=\s|$)', re.DOTALL)
SWAPPED = {"was": "were", "a": "an", "A": "An", "his": "her", "His": "Her"}
SWAPPED |= {other: word for word, other in SWAPPED.items()}


class Pair(NamedTuple):
    """A text of the grammar, and one that the grammar cannot generate."""

    good: str
    bad: str


class Edit(NamedTuple):
    """A span of a story, and words that make the story wrong there."""

    start: int
    end: int
    words: str


def pairs(phenomenon: str, seed: int) -> Iterator[Pair]:
    """Yield minimal pairs of one of the PHENOMENA, without end, from stories that no corpus contains."""
    random = Random(f"minimal pairs, {phenomenon}, {seed}")
    while True:
        story = Teller(random.random)
        tell_story(story)
        if edits := list(PHENOMENA[phenomenon](story)):
            start, end, words = random.choice(edits)
            text = story.text
            sentence_end = SENTENCE.match(text, end)
            rest = sentence_end[0] if sentence_end else ""
            yield Pair(text[:end] + rest, text[:start] + words + rest)


def _swap(pattern: str) -> Callable[[Teller], Iterator[Edit]]:
    """Replace a word that matches the pattern by its counterpart."""

    def edits(story: Teller) -> Iterator[Edit]:
        for match in re.finditer(rf"\b(?:{pattern})\b", story.text):
            yield Edit(*match.span(), SWAPPED[match[0]])

    return edits


def _word_order(story: Teller) -> Iterator[Edit]:
    """Swap two neighboring words."""
    for match in re.finditer(r"(?=\b([a-z]+) ([a-z]+)\b)", story.text):
        yield Edit(match.start(1), match.end(2), f"{match[2]} {match[1]}")


def _name(story: Teller) -> Iterator[Edit]:
    """Call someone by another name of the same kind."""
    mentioned = {forms[""] for forms in story.roles.values()}
    for names, _, _ in CHARACTERS:
        for name in sorted(mentioned.intersection(names)):
            # "Will you?" is not a name.
            yield from _later(story.text, f"{name}(?! you)", name, set(names) - mentioned)


def _thing(story: Teller) -> Iterator[Edit]:
    """Replace a known thing by another one."""
    mentioned = {forms[""] for forms in story.roles.values()}
    for noun in sorted(mentioned.intersection(THINGS)):
        yield from _later(story.text, noun, noun, set(THINGS) - mentioned)


def _look(story: Teller) -> Iterator[Edit]:
    """Change the look of a known thing."""
    for forms in story.roles.values():
        if "the" in forms:
            yield from _later(story.text, forms["the"], forms["the"].split()[0], set(LOOKS))


def _place(story: Teller) -> Iterator[Edit]:
    """Replace a spot by one of another place."""
    for role in ("spot", "spot2", "spot3"):
        if role in story.roles:
            spot, here = story.roles[role][""], story.roles["p"][""]
            elsewhere = {other for place in PLACES for other in PLACES[place] if place != here}
            yield from _replace(story.text.index(spot), spot, elsewhere)


def _later(text: str, phrase: str, word: str, others: set[str]) -> Iterator[Edit]:
    """Replace the first word of the phrase (a pattern) wherever the phrase occurs again."""
    for match in list(re.finditer(rf"\b{phrase}\b", text))[1:]:
        yield from _replace(match.start(), word, others)


def _replace(start: int, words: str, others: set[str]) -> Iterator[Edit]:
    """Replace the words by others of the same number of words."""
    for other in sorted(others - {words}):
        if other.count(" ") == words.count(" "):
            yield Edit(start, start + len(words), other)


PHENOMENA: dict[str, Callable[[Teller], Iterator[Edit]]] = {
    "agreement": _swap("was|were"),
    "article": _swap("[Aa]n?"),
    "word order": _word_order,
    "pronoun": _swap("[Hh]is|[Hh]er"),
    "name": _name,
    "thing": _thing,
    "look": _look,
    "place": _place,
}
