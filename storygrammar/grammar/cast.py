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
    """A child or an animal: {h} is "Gus", {h.kind} "frog", {h.his} "his", {h.His} "His"."""
    names, kinds, pronoun = s.pick(CHARACTERS)
    return {"": s.pick_new(names), "kind": s.pick(kinds), **PRONOUNS[pronoun]}


def grown_up(s: Teller) -> Forms:
    """Someone of the hero's family: {g} is "mom", {g.Name} "Mom"."""
    who = s.pick_new(GROWN_UPS)
    return {"": who, "Name": who.capitalize()}


def thing(s: Teller) -> Forms:
    """A thing: {t} is "drum", {t.the} "red drum", {t.a} "a red drum", {t.use} "play"."""
    look, noun = s.pick(LOOKS), s.pick_new(list(THINGS))
    return {"": noun, "the": f"{look} {noun}", "a": with_article(f"{look} {noun}"), "use": THINGS[noun]}


def looking(nouns: Sequence[str]) -> Callable[[Teller], Forms]:
    """One of the nouns, with a look: {c} is "hat", {c.the} "blue hat", {c.a} "a blue hat"."""

    def draw(s: Teller) -> Forms:
        look, noun = s.pick(LOOKS), s.pick_new(nouns)
        return {"": noun, "the": f"{look} {noun}", "a": with_article(f"{look} {noun}")}

    return draw


def place(s: Teller) -> Forms:
    """Where the story goes: {p} is "the park"."""
    return {"": s.pick(list(PLACES))}


def spot(s: Teller) -> Forms:
    """A spot in that place which was not told yet: {spot} is "under a bench"."""
    return {"": s.pick_new(PLACES[s.roles["p"][""]])}


def counted(s: Teller) -> Forms:
    """Some things: {seen} is "three clouds"."""
    return {"": f"{s.pick(NUMBERS)} {s.pick(COUNTED)}"}
