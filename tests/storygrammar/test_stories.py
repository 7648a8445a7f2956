"""The story grammar: exact probabilities, clean English, an endless sequence."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from storygrammar.grammar.generator import PLOTS, stories, tell_story
from storygrammar.grammar.teller import Teller, Template, parse

PAGE = Path(__file__).parents[2] / "docs" / "stories.md"
SHE = {"she", "her", "girl", "mom", "grandma", "aunt"}
HE = {"he", "him", "his", "boy", "dad", "grandpa", "uncle"}


class OnePlot(Teller):
    """A teller of stories of one plot that records the templates and the options of each choice."""

    def __init__(self, random: Callable[[], float], plot: Callable[[Teller], None]):
        super().__init__(random)
        self.plot = plot
        self.templates: set[str] = set()
        self.options: set[tuple] = set()

    def pick(self, options):
        self.options.add(tuple(options) if isinstance(options[0], str) else ())
        picked = super().pick(options)
        return self.plot if options is PLOTS else picked

    def tell(self, template):
        self.templates.add(template)
        super().tell(template)


@pytest.fixture(scope="module")
def tellers() -> list[OnePlot]:
    """Return the tellers of 300 stories of every plot."""
    random = Random(5).random
    tellers = [OnePlot(random, plot) for plot in PLOTS for _ in range(300)]
    for teller in tellers:
        tell_story(teller)
    return tellers


@pytest.fixture(scope="module")
def texts(tellers) -> list[str]:
    return [teller.text for teller in tellers]


class WrongTurnError(Exception):
    """The text so far is not a prefix of the target."""


class Replay(Teller):
    """A teller that takes given decisions, then first options, while the text is a prefix of the target."""

    def __init__(self, target: str, decisions: list[int]):
        super().__init__(random=lambda: 0.0)
        self.target = target
        self.decisions = decisions
        # Each decision with its number of alternatives.
        self.taken: list[tuple[int, int]] = []
        # Characters and pieces that were compared with the target.
        self._n_checked = 0
        self._n_pieces = 0

    def draw(self, n: int) -> int:
        super().draw(n)
        for piece in self.pieces[self._n_pieces :]:
            if not self.target.startswith(piece, self._n_checked):
                raise WrongTurnError
            self._n_checked += len(piece)
        self._n_pieces = len(self.pieces)
        decision = self.decisions[len(self.taken)] if len(self.taken) < len(self.decisions) else 0
        self.taken.append((decision, n))
        return decision


def derivations(target: str, plot: Callable[[Teller], object] = tell_story) -> Iterator[float]:
    """Yield the bits of every derivation of a text, by depth-first search through all decisions."""
    decisions: list[int] = []
    while True:
        replay = Replay(target, decisions)
        try:
            plot(replay)
            if replay.text == target:
                yield replay.bits
        except WrongTurnError:
            pass
        taken = replay.taken
        # Drop the choices whose alternatives are all done.
        while taken and taken[-1][0] == taken[-1][1] - 1:
            taken.pop()
        if not taken:
            return
        decisions = [decision for decision, _ in taken]
        decisions[-1] += 1


def choices(template: Template) -> Iterator[list[Template]]:
    """Yield all choices of a template, also nested ones."""
    for part in template:
        if isinstance(part, list):
            yield part
            for alternative in part:
                yield from choices(alternative)


def test_derivation_search_finds_ambiguity():
    def ambiguous(s: Teller) -> None:
        s.tell("[|so |very ][glad|so glad|sad].")

    assert sorted(derivations("so glad.", ambiguous)) == pytest.approx([3.169925, 3.169925])
    assert list(derivations("very sad.", ambiguous)) == pytest.approx([3.169925])
    assert list(derivations("so bad.", ambiguous)) == []


@pytest.mark.parametrize("i", range(len(PLOTS)), ids=[plot.__name__ for plot in PLOTS])
def test_story_has_one_derivation_with_its_bits(i):
    story = OnePlot(Random(i).random, PLOTS[i])
    tell_story(story)
    assert list(derivations(story.text)) == pytest.approx([story.bits])


@pytest.mark.slow
def test_many_stories_have_one_derivation():
    for story in islice(stories(8), 500):
        assert list(derivations(story.text)) == pytest.approx([story.bits]), story.text


def test_alternatives_are_distinct(tellers):
    templates = set.union(*(teller.templates for teller in tellers))
    assert len(templates) > 100
    for template in templates:
        for choice in choices(parse(template)):
            assert len({str(alternative) for alternative in choice}) == len(choice) > 1, template
    for options in set.union(*(teller.options for teller in tellers)):
        assert len(set(options)) == len(options), options


def test_role_is_drawn_once_when_it_first_occurs():
    s = Teller(Random(1).random)
    s.cast(x=["hat", "cap"], unused=["a", "b", "c"])
    s.tell("{x} {x} {x.a}")
    assert s.text in ("hat hat a hat", "cap cap a cap")
    assert s.bits == 1.0


def test_roles_take_distinct_words():
    for seed in range(20):
        s = Teller(Random(seed).random)
        s.cast(x=["hat", "cap"], y=["hat", "cap"])
        s.tell("{x} {y}")
        assert s.text in ("hat cap", "cap hat")
        assert s.bits == 1.0


def test_stories_depend_on_the_seed():
    first = [story.text for story in islice(stories(1), 100)]
    assert first == [story.text for story in islice(stories(1), 100)]
    assert not set(first) & {story.text for story in islice(stories(2), 100)}


def test_larger_corpus_extends_a_smaller_one():
    assert list(islice(stories(3), 300))[:100] == list(islice(stories(3), 100))


def test_grammar_has_many_plots_and_words():
    assert len(PLOTS) >= 30
    text = " ".join(story.text.lower() for story in islice(stories(4), 2000))
    assert len(set(re.findall(r"[a-z]+", text))) >= 600


def test_entropy_is_a_fifth_of_a_bit_per_byte():
    seen: set[int] = set()
    bits = size = 0.0
    for text, story_bits in islice(stories(6), 100_000):
        seen.add(hash(text))
        bits += story_bits
        size += len(text.encode())
    assert 0.2 <= bits / size <= 0.23
    assert len(seen) > 99_900


def test_text_contains_no_notation(texts):
    for text in texts:
        assert not re.search(r"[][{}<>|_]|MEMORY|LESSON", text), text
        assert text.isascii() and text == text.strip()
        assert "  " not in text and " \n" not in text and not re.search(r" [.,!?;:]", text), text


def test_sentences_are_capitalized_and_punctuated(texts):
    for text in texts:
        for line in text.split("\n"):
            assert re.match(r'"?[A-Z]', line), line
            assert re.search(r'[.!?]"?$', line), line
        # No full stop inside a sentence.
        assert not re.search(r'[.]"? "?[a-z]', text), text
        assert not re.search(r"[!?] [a-z]|[,;:] ?[.!?]|[.!?][.,!?]", text), text


def test_quotations_are_closed_in_their_paragraph(texts):
    for text in texts:
        for line in text.split("\n"):
            quotes = re.findall(r'(?:^|(?<= ))"|"(?= |$)', line)
            # Each stands at the edge of a word.
            assert len(quotes) == line.count('"')
            assert len(quotes) % 2 == 0, line


def test_articles_agree_with_the_next_word(texts):
    for text in texts:
        assert not re.search(r"\b[Aa] [aeiou]|\b[Aa]n (?!hour)[^aeiou]", text), text


def test_no_word_is_repeated_in_a_row(texts):
    for text in texts:
        assert not re.search(r"\b([A-Za-z]+) \1\b", text), text


def test_pronouns_agree_with_characters(tellers):
    """If all characters have one gender, no pronoun has the other."""
    n = {"she": 0, "he": 0}
    for teller in tellers:
        people = [forms for forms in teller.roles.values() if "he" in forms]
        named = set(re.findall(r"[a-z]+", teller.text.lower()))
        genders = {forms["he"] for forms in people}
        if genders == {"she"} and not named & {"boy", "dad", "grandpa", "uncle"}:
            n["she"] += 1
            assert not named & HE, teller.text
        if genders == {"he"} and not named & {"girl", "mom", "grandma", "aunt"}:
            n["he"] += 1
            assert not named & SHE, teller.text
    assert min(n.values()) > 300


def test_docs_show_the_output_of_the_command():
    page = PAGE.read_text(encoding="utf-8")
    command = re.search(r"^python (-m storygrammar\.grammar\.generator .*)$", page, re.MULTILINE)[1]
    documented = re.search(r"```text\n(.*?)```", page, re.DOTALL)[1]
    printed = subprocess.run(
        [sys.executable, *command.split()], cwd=PAGE.parents[1], capture_output=True, text=True, check=True
    ).stdout
    assert documented == printed
    assert printed.split("\n\n")[0] == next(stories(42)).text
