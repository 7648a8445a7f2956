"""Endless conversations about stories: write one, continue it, summarize it, answer questions."""

import re
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any, NamedTuple

from storygrammar.grammar.generator import tell_story
from storygrammar.grammar.teller import Teller
from storygrammar.prompts.constraints import Constraints, draw_constraints, is_held_out, render_prompt
from storygrammar.prompts.summaries import QUESTIONS, Roles, questions_about, summarize

# A prompt, its answer, and the constraints on the answer that can be checked.
Turn = tuple[str, str, Mapping[str, str]]
Conversation = list[Turn]

SUMMARIZE = "Sum it up in one sentence."
# Prompts that fit any story.
ABOUT_ANY = (SUMMARIZE, QUESTIONS["weather"][0])
SENTENCE_END = re.compile(r'(?<=[.!?]) (?=[A-Z"])')


class StoryFacts(NamedTuple):
    """A story, its plot and roles, and constraints that it satisfies."""

    text: str
    plot: str
    roles: Roles
    constraints: Constraints


def conversations(tasks: Mapping[Any, float], seed: int, held_out: bool) -> Iterator[Conversation]:
    """Yield conversations of the weighted TASKS, without end: those to train on, or the held-out ones."""
    random = Random(f"conversations, {seed}, {held_out}")
    # The order of the names decides the draws.
    names = [name for name in TASKS if name in tasks]
    weights = [tasks[name] for name in names]
    while True:
        teller = Teller(random.random)
        plot = tell_story(teller)
        constraints = draw_constraints(plot, teller.roles, random)
        if is_held_out(constraints) == held_out:
            [task] = random.choices(names, weights)
            yield TASKS[task](StoryFacts(teller.text, plot, teller.roles, constraints), random)


def write_story(story: StoryFacts, random: Random) -> Conversation:
    """Ask for a story that satisfies the constraints."""
    return [(render_prompt(story.constraints), story.text, story.constraints)]


def continue_story(story: StoryFacts, random: Random) -> Conversation:
    """Give the first sentence or two and ask for the rest."""
    opening, _, _ = story.text.partition("\n")
    end = random.choice([match.start() for match in SENTENCE_END.finditer(opening)] + [len(opening)])
    return [(f"Go on: {story.text[:end]}", story.text[end:].strip(), {})]


def summarize_story(story: StoryFacts, random: Random) -> Conversation:
    """Ask for a summary of a story in one sentence."""
    return [_exact_turn(SUMMARIZE, summarize(story.plot, story.roles), "summary", story.text)]


def answer_question(story: StoryFacts, random: Random) -> Conversation:
    """Ask a question about a story."""
    question, answer = random.choice(questions_about(story.plot, story.roles))
    return [_exact_turn(question, answer, "question", story.text)]


def chat(story: StoryFacts, random: Random) -> Conversation:
    """Ask for a story, then for a summary and for two answers about it, in any order."""
    turns = [_exact_turn(SUMMARIZE, summarize(story.plot, story.roles), "summary")]
    turns += [
        _exact_turn(*qa, "question") for qa in random.sample(questions_about(story.plot, story.roles), 2)
    ]
    random.shuffle(turns)
    return write_story(story, random) + turns


def _exact_turn(prompt: str, answer: str, kind: str, text: str = "") -> Turn:
    """Return a turn with one right answer; the prompt is about `text`, or about an earlier turn."""
    return f"{prompt}\n{text}".strip(), answer, {kind: answer}


TASKS: dict[str, Callable[[StoryFacts, Random], Conversation]] = {
    "qa": answer_question,
    "chat": chat,
    "continuation": continue_story,
    "summary": summarize_story,
    "story": write_story,
}
