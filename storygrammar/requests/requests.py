"""Conversations about the grammar's stories, without end: to write them, to go on, to know what they said."""

import re
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import NamedTuple

from storygrammar.grammar.generator import tell
from storygrammar.grammar.teller import Teller
from storygrammar.requests.gists import QUESTIONS, Roles, questions, summary
from storygrammar.requests.wishes import Wishes, is_held_out, request, wishes_of

SUM_UP = "Sum it up in one sentence."
Turn = tuple[str, str, Mapping[str, str]]  # a request, its answer, and what can be checked of the answer
Conversation = list[Turn]

ABOUT_ANY = (SUM_UP, QUESTIONS["weather"][0])  # that can be asked whatever was told
SENTENCE_END = re.compile(r'(?<=[.!?]) (?=[A-Z"])')


class Told(NamedTuple):
    """A story, and what is known of it."""

    text: str
    plot: str
    roles: Roles
    wishes: Wishes


def conversations(tasks: Mapping[str, float], seed: int, held_out: bool) -> Iterator[Conversation]:
    """Conversations of the TASKS, by weight: either such as to train on, or of requests that are held out."""
    random = Random(f"conversations, {seed}, {held_out}")
    names = [name for name in TASKS if name in tasks]  # the order decides the draws
    weights = [tasks[name] for name in names]
    while True:
        teller = Teller(random.random)
        plot = tell(teller)
        wishes = wishes_of(plot, teller.roles, random)
        if is_held_out(wishes) == held_out:
            [task] = random.choices(names, weights)
            yield TASKS[task](Told(teller.text, plot, teller.roles, wishes), random)


def write(story: Told, random: Random) -> Conversation:
    """A story that is wished for."""
    return [(request(story.wishes), story.text, story.wishes)]


def go_on(story: Told, random: Random) -> Conversation:
    """The rest of a story, after a sentence or two."""
    opening, _, _ = story.text.partition("\n")
    end = random.choice([found.start() for found in SENTENCE_END.finditer(opening)] + [len(opening)])
    return [(f"Go on: {story.text[:end]}", story.text[end:].strip(), {})]


def sum_up(story: Told, random: Random) -> Conversation:
    """A story in a sentence."""
    return [_asked(SUM_UP, summary(story.plot, story.roles), "summary", story.text)]


def answer(story: Told, random: Random) -> Conversation:
    """A question about a story."""
    question, right = random.choice(questions(story.plot, story.roles))
    return [_asked(question, right, "question", story.text)]


def chat(story: Told, random: Random) -> Conversation:
    """A story that is wished for; then what it said is talked over."""
    turns = [_asked(SUM_UP, summary(story.plot, story.roles), "summary")]
    turns += [_asked(*qa, "question") for qa in random.sample(questions(story.plot, story.roles), 2)]
    random.shuffle(turns)
    return write(story, random) + turns


def _asked(request: str, right: str, kind: str, text: str = "") -> Turn:
    """A request about a text, or about what was just told, with its one right answer."""
    return f"{request}\n{text}".strip(), right, {kind: right}


TASKS: dict[str, Callable[[Told, Random], Conversation]] = {
    "qa": answer,
    "chat": chat,
    "continuation": go_on,
    "summary": sum_up,
    "story": write,
}
