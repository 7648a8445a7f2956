"""Match sentences of a story with regular expressions, which find the words of each role.

The checker needs no second description of the grammar: it derives its patterns from the plots themselves.

1. Run every plot with a `TemplateRecorder` as its teller. It does not draw at random: it takes the given
   decisions and records the templates instead of rendering them. Running a plot once for each combination of
   the decisions that it makes outside its templates gives all its scripts (`_scripts`). For example the plot

       s.tell("{h} lost {t.a}.")
       if s.pick((True, False)):
           s.tell("{f} found it.")

   has two scripts, "{h} lost {t.a}. {f} found it." and "{h} lost {t.a}.".
2. Cut each script into the templates of single sentences (`_templates`).
3. Turn each template into a regular expression (`_pattern`): its choices become alternations, and a role
   becomes a named group that matches any words of the role's shape, not only the words of the grammar. So
   "Tom lost a green elephant." is read as {h} = "Tom", {t.a} = "a green elephant", although no story of the
   grammar has an elephant. What a sentence states can then be compared with the other sentences.
4. A sentence may match several patterns, of several plots: each is a `SentenceMatch`. The story's plot is the
   one that matches most of its sentences (see consistency.py).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import count
from typing import NamedTuple

from storygrammar.grammar import cast
from storygrammar.grammar.generator import PLOTS
from storygrammar.grammar.scenes import opening
from storygrammar.grammar.teller import Source, T, Teller, Template, parse
from storygrammar.grammar.words import SHORTHANDS

# The end of a sentence, in a story and in a template.
SENTENCE_END = re.compile(r'([.!?]\]?"?)\s+(?=\[?["A-Z{])')
# A choice with a full stop inside an alternative: some alternatives are two sentences.
TWO_SENTENCES = re.compile(r"\[([^][]*\. [^][]*)\]")

# One to five words, as few as match.
WORDS = r"[a-z][a-z'-]*(?:,? [a-z'-]+){0,4}?"
NAME = r"(?!They |It )[A-Z][a-z]+"
SPOT = rf"(?:in|on|by|near|next to|under|behind|beside|between|among) {WORDS}"
# Patterns of the words of some forms of roles.
SHAPES = {
    "a": rf"an? {WORDS}",
    "his": "his|her|its|their",
    "His": "His|Her|Its|Their",
    "kind": "[a-z]+",
    "Name": NAME,
}
# Fixed words of the templates for which a story may have a wrong word. They get a group, too: its role is
# OWNER and its form the correct word.
OWNERS = r"\b(my|your|mine|yours)\b"
OWNER = "owner"


class SentencePattern(NamedTuple):
    """A regular expression of sentences that plots can generate."""

    # Its groups are named role__form__number.
    regex: re.Pattern[str]
    # Text that every such sentence contains: a cheap test before the regular expression.
    literal: str
    # Roles that first occur here.
    new_roles: frozenset[str]
    # Plots that generate it, and in which of their branches.
    branches: dict[str, set[bool | None]]


class SentenceMatch(NamedTuple):
    """A sentence, a pattern that matches it, and (role, form, words) of each group."""

    sentence: str
    pattern: SentencePattern
    groups: list[tuple[str, str, str]]


class TemplateRecorder(Teller):
    """A teller that records templates: it takes the given decisions, then the first option of each choice."""

    def __init__(self, decisions: list[int]):
        super().__init__(random=lambda: 0.0)
        self.decisions = decisions
        # Decisions so far, each with its number of alternatives.
        self.taken: list[tuple[int, int]] = []
        # The branch that the plot took, if it has two.
        self.branch: bool | None = None
        self.aliases: dict[str, str] = {}

    def draw(self, n: int) -> int:
        decision = self.decisions[len(self.taken)] if len(self.taken) < len(self.decisions) else 0
        self.taken.append((decision, n))
        return decision

    def pick(self, options: Sequence[T]) -> T:
        picked = super().pick(options)
        if options == (True, False):
            self.branch = bool(picked)
        return picked

    def alias(self, role: str, of: str) -> None:
        self.aliases[role] = of
        super().alias(role, of)

    def tell(self, template: str) -> None:
        for alias, role in self.aliases.items():
            template = re.sub(rf"{{{alias}\b", f"{{{role}", template)
        # Plots only test whether a role has occurred; they do not read its forms.
        self.roles.update({role: {} for role in _roles(template)})
        self.pieces.append(template)


def split_sentences(text: str) -> list[str]:
    """Split a story or a template into sentences."""
    return SENTENCE_END.sub(r"\1\n", text).split("\n")


def match_sentence(sentence: str) -> list[SentenceMatch]:
    """Return the matches of a sentence with all patterns."""
    return [
        SentenceMatch(
            sentence,
            pattern,
            [_group(name, words) for name, words in match.groupdict().items() if words],
        )
        for pattern in sentence_patterns()
        if pattern.literal in sentence and (match := pattern.regex.fullmatch(sentence))
    ]


def _group(name: str, words: str) -> tuple[str, str, str]:
    """Return (role, form, words) of a group."""
    role, form, _ = name.split("__")
    return role, form, words


@cache
def sentence_patterns() -> list[SentencePattern]:
    """Return the patterns of all sentences of all plots."""
    new_roles: dict[str, set[str]] = {}
    branches: dict[str, dict[str, set[bool | None]]] = {}
    sources: dict[str, Source] = {}
    for plot in PLOTS:
        for recorder in _scripts(plot):
            sources |= recorder.sources
            seen: set[str] = set()
            for template in _templates(" ".join(recorder.pieces)):
                new_roles.setdefault(template, set()).update(_roles(template) - seen)
                branches.setdefault(template, {}).setdefault(plot.__name__, set()).add(recorder.branch)
                seen |= _roles(template)
    return [
        SentencePattern(*_pattern(template, sources), frozenset(new_roles[template]), branches[template])
        for template in new_roles
    ]


def _scripts(plot: Callable[[Teller], None]) -> Iterator[TemplateRecorder]:
    """Run the plot once for each combination of the decisions that it makes outside its templates."""
    decisions: list[int] = []
    while True:
        recorder = TemplateRecorder(decisions)
        opening(recorder)
        plot(recorder)
        yield recorder
        taken = recorder.taken
        # Drop the choices whose alternatives are all done, then advance the last one left.
        while taken and taken[-1][0] == taken[-1][1] - 1:
            taken.pop()
        if not taken:
            return
        decisions = [decision for decision, _ in taken]
        decisions[-1] += 1


def _templates(script: str) -> Iterator[str]:
    """Yield the templates of the single sentences of a script."""
    script = " ".join(script.split())
    for short, choice in SHORTHANDS.items():
        script = script.replace(short, choice)
    if choice_of_sentences := TWO_SENTENCES.search(script):
        start, end = choice_of_sentences.span()
        for alternative in choice_of_sentences[1].split("|"):
            yield from _templates(script[:start] + alternative + script[end:])
    else:
        yield from split_sentences(script)


def _roles(template: str) -> set[str]:
    """Return the roles that occur in a template."""
    return set(re.findall(r"{(\w+)", template))


def _pattern(template: str, sources: dict[str, Source]) -> tuple[re.Pattern[str], str]:
    """Return a template as a regular expression, and the longest text that all its sentences contain."""
    numbers = count()
    literals = [""]

    def group(role: str, form: str, shape: str) -> str:
        return f"(?P<{role}__{form}__{next(numbers)}>{shape})"

    def regex(template: Template, depth: int) -> str:
        parts = []
        for part in template:
            if isinstance(part, str):
                for i, words in enumerate(re.split(OWNERS, part)):
                    parts.append(group(OWNER, words, "[a-z]+") if i % 2 else re.escape(words))
                    literals.append("" if i % 2 or depth else words)
            elif isinstance(part, tuple):
                parts.append(group(*part, _shape(*part, sources[part[0]])))
            else:
                alternatives = [regex(alternative, depth + 1) for alternative in part]
                # Fixed words come before groups that match anything, and long ones before short ones.
                alternatives.sort(key=lambda regex: (regex.count("(?P<"), -len(regex)))
                parts.append(f"(?:{'|'.join(alternatives)})")
        return "".join(parts)

    return re.compile(regex(parse(template), depth=0)), max(literals, key=len)


def _shape(role: str, form: str, source: Source) -> str:
    """Return the pattern of the words of a role's form."""
    if form in SHAPES:
        return SHAPES[form]
    if source is cast.character:
        return f"{NAME}|him|her"
    if source is cast.spot or (not callable(source) and re.fullmatch(SPOT, source[0])):
        return SPOT
    return NAME if not callable(source) and source[0].istitle() else WORDS
