"""The characters, things and places of a story: each function draws a role and returns its forms."""

from collections.abc import Callable, Sequence

from storygrammar.grammar.teller import Forms, Teller
from storygrammar.grammar.words import (
    ANIMALS,
    BOYS,
    COUNTED,
    GIRLS,
    GROWN_UPS,
    HE_ANIMALS,
    LOOKS,
    NUMBERS,
    PLACES,
    PRONOUNS,
    SHE_ANIMALS,
    THINGS,
    with_article,
)

CHARACTERS = (
    (GIRLS, ("girl",), "she"),
    (BOYS, ("boy",), "he"),
    (SHE_ANIMALS, ANIMALS, "she"),
    (HE_ANIMALS, ANIMALS, "he"),
)


def character(s: Teller) -> Forms:
    """Draw a child or an animal: {h} is "Gus", {h.kind} "frog", {h.his} "his", {h.His} "His"."""
    names, kinds, pronoun = s.pick(CHARACTERS)
    return {"": s.pick_new(names), "kind": s.pick(kinds), **PRONOUNS[pronoun]}


def grown_up(s: Teller) -> Forms:
    """Draw someone of the hero's family: {g} is "mom", {g.Name} "Mom"."""
    who = s.pick_new(GROWN_UPS)
    return {"": who, "Name": who.capitalize()}


def thing(s: Teller) -> Forms:
    """Draw a thing: {t} is "drum", {t.the} "red drum", {t.a} "a red drum", {t.use} "play"."""
    look, noun = s.pick(LOOKS), s.pick_new(list(THINGS))
    return {"": noun, "the": f"{look} {noun}", "a": with_article(f"{look} {noun}"), "use": THINGS[noun]}


def looking(nouns: Sequence[str]) -> Callable[[Teller], Forms]:
    """Return a function that draws a noun and a look: {c} is "hat", {c.a} "a blue hat"."""

    def draw(s: Teller) -> Forms:
        look, noun = s.pick(LOOKS), s.pick_new(nouns)
        return {"": noun, "the": f"{look} {noun}", "a": with_article(f"{look} {noun}")}

    return draw


def place(s: Teller) -> Forms:
    """Draw the place of the story: {p} is "the park"."""
    return {"": s.pick(list(PLACES))}


def spot(s: Teller) -> Forms:
    """Draw a spot in the place that no role has taken: {spot} is "under a bench"."""
    return {"": s.pick_new(PLACES[s.roles["p"][""]])}


def counted(s: Teller) -> Forms:
    """Draw some things: {seen} is "three clouds"."""
    return {"": f"{s.pick(NUMBERS)} {s.pick(COUNTED)}"}
