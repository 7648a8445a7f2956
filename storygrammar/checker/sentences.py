"""The sentences of the story grammar as patterns, which find in a told sentence the words of each role.

The plots are run with a `Scribe` for their teller: it notes their templates instead of telling a story. Each
sentence of a template becomes a regular expression. Its choices stay as they are, but a role may have any
words: a story may well say what the grammar never would.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from typing import NamedTuple

from storygrammar.grammar import cast
from storygrammar.grammar.generator import PLOTS
from storygrammar.grammar.scenes import opening
from storygrammar.grammar.teller import Source, Teller, Template, parse
from storygrammar.grammar.words import SHORTHANDS

SENTENCE_END = re.compile(r'([.!?]\]?"?)\s+(?=\[?["A-Z{])')  # in a story, and in a template
TWO_SENTENCES = re.compile(r"\[([^][]*\. [^][]*)\]")  # a choice with a full stop inside an alternative

WORDS = r"[a-z][a-z'-]*(?:,? [a-z'-]+){0,4}?"  # five at most, and as few as will do
NAME = r"(?!They |It )[A-Z][a-z]+"
SPOT = rf"(?:in|on|by|near|next to|under|behind|beside|between|among) {WORDS}"
SHAPES = {  # the words of some forms of roles
    "a": rf"an? {WORDS}",
    "his": "his|her|its|their",
    "His": "His|Her|Its|Their",
    "kind": "[a-z]+",
    "Name": NAME,
}
OWNERS = r"\b(my|your|mine|yours)\b"  # words of the templates that a story may have got wrong, too
OWNER = "owner"  # the role of these, the right word being the form


class Sentence(NamedTuple):
    """A sentence that plots can tell."""

    pattern: re.Pattern  # its groups are named role__form__number
    literal: str  # is in every such sentence: a quick look before the slow one
    first: frozenset[str]  # roles that are first told here
    branches: dict[str, set[bool | None]]  # plots that tell it → in which of their branches


class Reading(NamedTuple):
    """A way to read a sentence."""

    sentence: str
    kind: Sentence
    told: list[tuple[str, str, str]]  # role, form and words


class Scribe(Teller):
    """Notes what templates a plot tells if it takes these decisions, then the first of every choice."""

    def __init__(self, decisions: list[int]):
        super().__init__(random=lambda: 0.0)
        self.decisions = decisions
        self.taken: list[tuple[int, int]] = []  # decisions, and among how many alternatives
        self.branch: bool | None = None  # which way the plot went, if it has two
        self.aliases: dict[str, str] = {}

    def draw(self, n: int) -> int:
        decision = self.decisions[len(self.taken)] if len(self.taken) < len(self.decisions) else 0
        self.taken.append((decision, n))
        return decision

    def pick(self, options):
        picked = super().pick(options)
        if options == (True, False):
            self.branch = picked
        return picked

    def alias(self, role: str, of: str) -> None:
        self.aliases[role] = of
        super().alias(role, of)

    def tell(self, template: str) -> None:
        for alias, role in self.aliases.items():
            template = re.sub(rf"{{{alias}\b", f"{{{role}", template)
        self.roles.update({role: {} for role in _roles(template)})  # told, which is all that plots ask
        self.pieces.append(template)


def split(text: str) -> list[str]:
    """The sentences of a story, or of a template."""
    return SENTENCE_END.sub(r"\1\n", text).split("\n")


def readings(sentence: str) -> list[Reading]:
    """All ways to read a sentence."""
    return [
        Reading(
            sentence,
            kind,
            [(*name.split("__")[:2], words) for name, words in found.groupdict().items() if words],
        )
        for kind in sentences()
        if kind.literal in sentence and (found := kind.pattern.fullmatch(sentence))
    ]


@cache
def sentences() -> list[Sentence]:
    """All sentences of all plots."""
    first: dict[str, set[str]] = {}
    branches: dict[str, dict[str, set[bool | None]]] = {}
    sources: dict[str, Source] = {}
    for plot in PLOTS:
        for scribe in _scripts(plot):
            sources |= scribe.sources
            told: set[str] = set()
            for template in _templates(" ".join(scribe.pieces)):
                first.setdefault(template, set()).update(_roles(template) - told)
                branches.setdefault(template, {}).setdefault(plot.__name__, set()).add(scribe.branch)
                told |= _roles(template)
    return [
        Sentence(*_pattern(template, sources), frozenset(first[template]), branches[template])
        for template in first
    ]


def _scripts(plot: Callable[[Teller], None]) -> Iterator[Scribe]:
    """Run the plot once for all combinations of decisions that it takes outside of its templates."""
    decisions: list[int] = []
    while True:
        scribe = Scribe(decisions)
        opening(scribe)
        plot(scribe)
        yield scribe
        taken = scribe.taken
        while taken and taken[-1][0] == taken[-1][1] - 1:  # all alternatives of this choice are done
            taken.pop()
        if not taken:
            return
        decisions = [decision for decision, _ in taken]
        decisions[-1] += 1


def _templates(script: str) -> Iterator[str]:
    """The templates of the single sentences of a script."""
    script = " ".join(script.split())
    for short, choice in SHORTHANDS.items():
        script = script.replace(short, choice)
    if found := TWO_SENTENCES.search(script):
        for alternative in found[1].split("|"):
            yield from _templates(script[: found.start()] + alternative + script[found.end() :])
    else:
        yield from split(script)


def _roles(template: str) -> set[str]:
    return set(re.findall(r"{(\w+)", template))


def _pattern(template: str, sources: dict[str, Source]) -> tuple[re.Pattern, str]:
    """A template as a regular expression, and the longest text that all its sentences have."""
    number = count()
    literals = [""]

    def slot(role: str, form: str, shape: str) -> str:
        return f"(?P<{role}__{form}__{next(number)}>{shape})"

    def regex(template: Template, depth: int) -> str:
        parts = []
        for part in template:
            if isinstance(part, str):
                for i, words in enumerate(re.split(OWNERS, part)):
                    parts.append(slot(OWNER, words, "[a-z]+") if i % 2 else re.escape(words))
                    literals.append("" if i % 2 or depth else words)
            elif isinstance(part, tuple):
                parts.append(slot(*part, _shape(*part, sources[part[0]])))
            else:
                alternatives = [regex(alternative, depth + 1) for alternative in part]
                # Fixed words before those that may be anything, and long ones before short ones.
                alternatives.sort(key=lambda regex: (regex.count("(?P<"), -len(regex)))
                parts.append(f"(?:{'|'.join(alternatives)})")
        return "".join(parts)

    return re.compile(regex(parse(template), depth=0)), max(literals, key=len)


def _shape(role: str, form: str, source: Source) -> str:
    """What the words of a role's form look like."""
    if form in SHAPES:
        return SHAPES[form]
    if source is cast.character:
        return f"{NAME}|him|her"
    if source is cast.spot or (not callable(source) and re.fullmatch(SPOT, source[0])):
        return SPOT
    return NAME if not callable(source) and source[0].istitle() else WORDS
