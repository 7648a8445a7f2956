"""Plant one contradiction in a story by editing its plain text, to test that the checker finds it.

An edit changes one word, one name or one phrase so that it contradicts what the same story says elsewhere, or
what the words mean. Where a story has no such place for a kind of contradiction, there is no edit.
"""

import re
from collections.abc import Iterator
from random import Random

from storygrammar.grammar.plots_friends import FAR, PRIZES
from storygrammar.grammar.plots_home import CORNERS
from storygrammar.grammar.plots_things import HEIGHTS, HIDING_PLACES
from storygrammar.grammar.plots_trips import WATERS
from storygrammar.grammar.words import (
    AFRAID,
    BOYS,
    CROSS,
    FOODS,
    GIRLS,
    GOOD,
    HE_ANIMALS,
    LONELY,
    LOOKS,
    NUMBERS,
    PLACES,
    SAD,
    SHE_ANIMALS,
    SORRY,
    THINGS,
)

GENDER = dict.fromkeys([*GIRLS, *SHE_ANIMALS], "her") | dict.fromkeys([*BOYS, *HE_ANIMALS], "his")
# Names for renamed characters: those of the grammar, and some that no story has.
OTHER_NAMES = {
    "her": [*GIRLS, *SHE_ANIMALS, "Sophie", "Hannah", "Trudy", "Olga"],
    "his": [*BOYS, *HE_ANIMALS, "Oliver", "Victor", "Basil", "Kurt"],
}
SWAP = {"his": "her", "her": "his", "His": "Her", "Her": "His", "my": "your", "your": "my"}
BAD = [*SAD, *AFRAID, *SORRY, *LONELY, *CROSS]
FAMILIES = (
    ["sad", "gloomy", "glum", "miserable"],
    ["scared", "afraid", "frightened"],
    ["cross", "angry", "furious"],
)
# Spot → places that cannot have it.
ELSEWHERE = {
    "near the lions": "the library, the school, the beach, the market, the castle, the garden, the lake",
    "in front of the monkeys": "the library, the school, the beach, the market, the hill, the lake",
    "behind the penguins": "the library, the school, the market, the castle, the garden, the farm, the hill",
    "by the blackboard": "the woods, the beach, the river, the meadow, the zoo, the lake, the farm, the park",
    "behind the throne": "the school, the beach, the woods, the river, the zoo, the farm, the playground",
    "behind the barn": "the library, the school, the beach, the castle, the zoo, the playground",
    "beside the seesaw": "the library, the castle, the river, the woods, the lake, the market, the hill",
    "beside the dunes": "the library, the school, the zoo, the castle, the market, the village, the farm",
    "between the shelves": "the woods, the beach, the river, the meadow, the lake, the hill, the zoo",
}
SPOTS = [spot for spots in PLACES.values() for spot in spots]


def plant(kind: str, text: str, random: Random) -> str | None:
    """Return the story with one contradiction of this kind, or None if that is not possible."""
    edited = sorted(set(EDITS[kind](text)) - {text})
    return random.choice(edited) if edited else None


def swapped_pronouns(text: str) -> Iterator[str]:
    """Exchange his and her where only one person can be meant."""
    for match in re.finditer(r"\b(his|her|His|Her)\b", text):
        so_far = text[: sentence_end(text, match.end())]
        sexes = {GENDER[name] for name in names(so_far)}
        # "Shook her head" refers to the subject.
        is_reflexive = re.search(r"(shook|closed|hit) $", text[: match.start()])
        if is_reflexive or sexes == {match[0].lower()}:
            yield replace(text, match.span(), SWAP[match[0]])


def swapped_owners(text: str) -> Iterator[str]:
    """Change the owner or the look of a thing, or who gives it to whom."""
    for match in re.finditer(r"\b([A-Z]\w+) (gave|handed|brought) ([A-Z]\w+) the\b", text):
        yield replace(text, match.span(), f"{match[3]} {match[2]} {match[1]} the")
    for owned in re.finditer(r"[A-Z]\w+ (?:had|owned|got) an? \w+ (\w+)", text):
        if owned[1] in THINGS:
            for match in re.finditer(rf"\b(my|your) (?:\w+ )?{owned[1]}\b", text):
                if " own " not in match[0]:
                    yield replace(text, match.span(1), SWAP[match[1]])
    looks = "|".join(LOOKS)
    for match in re.finditer(rf"\b(?:the|my) ({looks}) (\w+)", text):
        if re.search(rf"\b(?:an?|the|my) {match[1]} {match[2]}\b", text[: match.start()]):
            yield from replacements(text, match.span(1), LOOKS)
    for match in re.finditer(r"(?:the \w+ \w+ (?:of|from) ([A-Z]\w+)| ([A-Z]\w+)'s birthday)[.\w ]*$", text):
        span = match.span(1) if match[1] else match.span(2)
        yield from replacements(text, span, names(text) if text[slice(*span)] in names(text) else [])


def moved_places(text: str) -> Iterator[str]:
    """Move something to another place, or to a spot that the place of the story lacks."""
    corners = CORNERS if "There was a noise" in text else []
    for options in (SPOTS, HEIGHTS, corners, HIDING_PLACES, FAR, [f"on the {water}" for water in WATERS]):
        for option in options:
            for match in list(re.finditer(rf"(?<!play )\b{option}\b", text))[1:]:
                yield from replacements(text, match.span(), options)
    place = re.search(rf"\bto ({'|'.join(PLACES)})\b", text)
    for spot, elsewhere in ELSEWHERE.items():
        if place and place[1] in elsewhere.split(", "):
            for match in re.finditer(rf"(?<!play )({'|'.join(PLACES[place[1]])})\b", text):
                yield replace(text, match.span(), spot)
        if place and spot in text:
            yield from replacements(text, place.span(1), elsewhere.split(", "))


def renamed_characters(text: str) -> Iterator[str]:
    """Replace one mention of a name by another name."""
    for name in names(text):
        others = sorted(set(OTHER_NAMES[GENDER[name]]) - set(re.findall(r"\w+", text)))
        # "Will you?" is not a name.
        for match in list(re.finditer(rf"\b{name}\b(?! you)", text))[1:]:
            yield from replacements(text, match.span(), others)


def reversed_outcomes(text: str) -> Iterator[str]:
    """Change the ending: somebody is still sad, or something else is given, eaten or paid."""
    good, bad = "|".join(GOOD), "|".join(BAD)
    was_bad = re.search(rf"\b(?:was|felt|looked|seemed) (?:very |so |really )?({bad})\b", text)
    better = re.search(
        rf"(?:Now|At last|Soon|In the end) \w+ (?:was|felt|looked) ((?:very |so |really )?({good}))"
        rf"(?:(?:, not | and (no longer) )({bad}))?\.",
        text,
    )
    if was_bad and better:
        yield replace(text, better.span(2), was_bad[1])
        yield replace(text, better.span(1), f"still {was_bad[1]}")
        if better[4]:
            for family in FAMILIES:
                if any(was_bad[1] in other for other in FAMILIES if other is not family):
                    yield from replacements(text, better.span(4), family)
            swapped = replace(text, better.span(4), better[2])
            yield replace(swapped, better.span(2), better[4])
        if better[3]:
            yield replace(text, better.span(3), "still")
    # "Orange" may also be a color: "the orange hat".
    for options, where, before in (
        ([food for food in FOODS if food != "orange"], r"the ({})\b(?! tree)", "an?"),
        (PRIZES, r"the ({})\b", "for a"),
        (NUMBERS, r"had ({}) coins", "cost"),
    ):
        for option in options:
            for match in re.finditer(where.format(option), text):
                # It occurred before.
                if re.search(rf"\b{before} {option}\b", text[: match.start()]):
                    yield from replacements(text, match.span(1), options)
    if re.search("It had (no home|nobody|lost its home)", text):
        yield re.sub(r", and it stayed [\w ]+\.", " and sent it home.", text)
    if re.search('"(I did not wait|I was too fast|I spoiled it),"', text):
        yield re.sub(r"hated to wait|was in a hurry|could not wait", "was in no hurry", text)


EDITS = {
    "swapped pronoun": swapped_pronouns,
    "swapped owner": swapped_owners,
    "moved place": moved_places,
    "renamed character": renamed_characters,
    "reversed outcome": reversed_outcomes,
}


def names(text: str) -> list[str]:
    """Return the names of the characters who are introduced."""
    return re.findall(r" named ([A-Z]\w+)", text)


def sentence_end(text: str, at: int) -> int:
    """Return the end of the sentence that contains position `at`."""
    return next((match.end() for match in re.compile(r"[.!?]").finditer(text, at)), len(text))


def replace(text: str, span: tuple[int, int], new: str) -> str:
    """Return the text with new words at `span`."""
    return text[: span[0]] + new + text[span[1] :]


def replacements(text: str, span: tuple[int, int], options: list[str]) -> Iterator[str]:
    """Yield the text with each option in place of the words at `span`, with fitting articles."""
    old = text[slice(*span)]
    article = text[: span[0]].endswith((" a ", " an "))
    for option in options:
        if option != old and (not article or (option[0] in "aeiou") == (old[0] in "aeiou")):
            yield replace(text, span, option)
