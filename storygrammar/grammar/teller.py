"""The engine of the story grammar: draws every choice, adds up its bits and remembers the words of each role.

A plot is a Python function that calls a `Teller`; its sentences are templates in which

    [a|b|c]   is a choice, each alternative equally likely; choices may be nested and may be empty
    {h}       is the plain form of a role (here the hero's name), drawn where it first occurs
    {h.his}   is another form of the same role
    <then>    stands for a choice that many sentences share (`words.SHORTHANDS`)

so `"{h} lost {h.his} {t}[.|, oh no!]"` states who lost what, and adds a sigh in every second story. A line
break with its indent is a space.

Every choice is uniform and adds log2(number of alternatives) to `bits`, the negative log2-probability of the
story. The grammar is written so that a text has one derivation. Then the mean of these bits is the entropy of
the corpus, the least that any model can reach (Shannon, 1948).
"""

from collections.abc import Callable, Sequence
from functools import cache
from math import log2
from typing import TypeAlias, TypeVar

from storygrammar.grammar.words import SHORTHANDS, with_article

T = TypeVar("T")
# Parts of a template: text, (role, form), or a list of alternatives.
Template: TypeAlias = "tuple[str | tuple[str, str] | list[Template], ...]"
# Form of a role → words; "" is the plain form.
Forms = dict[str, str]
# Words to pick from, or a function that draws all forms of a role.
Source: TypeAlias = "Sequence[str] | Callable[[Teller], Forms]"

# The bits of a choice, by its number of alternatives.
LOG2 = [0.0, *(log2(n) for n in range(1, 257))]


class Teller:
    """Generator of one story. `random` returns numbers in [0, 1), as `random.Random(seed).random` does."""

    def __init__(self, random: Callable[[], float]):
        self.random = random
        # The negative log2-probability of all choices so far.
        self.bits = 0.0
        # The words of the roles that have occurred, and the sources of all roles.
        self.roles: dict[str, Forms] = {}
        self.sources: dict[str, Source] = {}
        self.pieces: list[str] = []
        # Separator between the text so far and the next piece.
        self._gap = ""

    @property
    def text(self) -> str:
        """Return the story so far."""
        return "".join(self.pieces)

    def draw(self, n: int) -> int:
        """Draw one of n equally likely alternatives."""
        self.bits += LOG2[n]
        return int(self.random() * n)

    def pick(self, options: Sequence[T]) -> T:
        """Pick one of the options."""
        return options[self.draw(len(options))]

    def pick_new(self, options: Sequence[str]) -> str:
        """Pick one of the options that no role of this story has taken."""
        taken = {forms[""] for forms in self.roles.values()}
        return self.pick([option for option in options if option not in taken])

    def cast(self, **sources: Source) -> None:
        """Declare the sources of roles. A role is drawn when it first occurs; unused ones cost no bits."""
        self.sources.update(sources)
        for role in sources:
            self.roles.pop(role, None)

    def alias(self, role: str, of: str) -> None:
        """Give a role the forms of another one."""
        self.roles[role] = self.roles[of]

    def tell(self, template: str) -> None:
        """Add sentences, or a part of one, to the story."""
        self.pieces.append(self._gap)
        self._render(parse(template))
        self._gap = " "

    def paragraph(self) -> None:
        """Start a new line with the next sentence."""
        self._gap = "\n"

    def _render(self, template: Template) -> None:
        """Append a template's text, drawing its choices and new roles."""
        for part in template:
            if isinstance(part, str):
                self.pieces.append(part)
            elif isinstance(part, tuple):
                role, form = part
                if role not in self.roles:
                    self.roles[role] = self._draw_role(self.sources[role])
                self.pieces.append(self.roles[role][form])
            else:
                self._render(part[self.draw(len(part))])

    def _draw_role(self, source: Source) -> Forms:
        """Return the forms of a role, drawn from its source."""
        if callable(source):
            return source(self)
        word = self.pick_new(source)
        return {"": word, "a": with_article(word)}


@cache
def parse(text: str) -> Template:
    """Parse a template: a sequence of text, (role, form) and lists of alternatives."""
    text = " ".join(text.split())
    for short, choice in SHORTHANDS.items():
        text = text.replace(short, choice)
    template, rest = _parse_sequence(text, 0)
    if rest != len(text):
        raise ValueError(f"unbalanced ']' or '|' at {rest} in template {text!r}")
    return template


def _parse_sequence(text: str, at: int) -> tuple[Template, int]:
    """Parse from `at` up to the end or to a '|' or ']' of the enclosing choice."""
    parts: list[str | tuple[str, str] | list[Template]] = []
    while at < len(text) and text[at] not in "|]":
        if text[at] == "[":
            alternatives: list[Template] = []
            while text[at] != "]":
                alternative, at = _parse_sequence(text, at + 1)
                alternatives.append(alternative)
            parts.append(alternatives)
            at += 1
        elif text[at] == "{":
            end = text.index("}", at)
            role, _, form = text[at + 1 : end].partition(".")
            parts.append((role, form))
            at = end + 1
        else:
            end = min((i for i in (text.find(mark, at) for mark in "[{|]") if i >= 0), default=len(text))
            parts.append(text[at:end])
            at = end
    return tuple(parts), at
