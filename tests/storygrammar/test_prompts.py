"""Prompts about stories: their constraints hold, and held-out ones are not trained on."""

import re
from itertools import combinations, islice
from random import Random

import pytest

from slm.eval.constraints import satisfied_values
from slm.sft.conversations import Turn, render
from storygrammar.grammar.generator import PLOTS, tell_story
from storygrammar.grammar.teller import Teller
from storygrammar.prompts.constraints import KINDS, draw_constraints, is_held_out, render_prompt
from storygrammar.prompts.conversations import TASKS, conversations
from storygrammar.prompts.summaries import PLOT_SUMMARIES, questions_about, summarize

ALL = dict.fromkeys(TASKS, 1.0)


def first_conversations(n: int, tasks=ALL, seed: int = 1, held_out: bool = False):
    sample = islice(conversations(tasks, seed, held_out), n)
    return [[Turn(*turn) for turn in conversation] for conversation in sample]


@pytest.fixture(scope="module")
def plots_and_tellers():
    """Return pairs of a plot and the teller of a story; every plot occurs."""
    random, pairs = Random(3).random, []
    while len(pairs) < 1200 or len({plot for plot, _ in pairs}) < len(PLOTS):
        teller = Teller(random)
        pairs.append((tell_story(teller), teller))
    return pairs


def test_every_plot_has_a_summary():
    assert set(PLOT_SUMMARIES) == {plot.__name__ for plot in PLOTS}


def test_answers_use_the_words_of_the_story(plots_and_tellers):
    for plot, story in plots_and_tellers:
        texts = [summarize(plot, story.roles)]
        for question, answer in questions_about(plot, story.roles):
            assert question.endswith("?")
            texts.append(answer)
            words = re.sub("^(To|In|The|A|An|It was) ", "", answer).rstrip(".")
            assert words.lower() in story.text.lower(), (plot, question, answer)
        assert all(text[0].isupper() and text.endswith(".") and "{" not in text for text in texts)


def test_story_satisfies_its_drawn_constraints(plots_and_tellers):
    random, kinds = Random(4), set()
    for plot, story in plots_and_tellers:
        values = satisfied_values(story.text)
        for kind, value in draw_constraints(plot, story.roles, random).items():
            assert value in values[kind], (kind, value, story.text)
            kinds.add(kind)
    assert kinds == set(KINDS)


@pytest.mark.parametrize(("constraints", "prompt"), [
    ({"ending": "well"}, "Write a story. It ends well."),
    ({"name": "Gus"}, "Write a story about Gus."),
    ({"hero": "owl", "name": "Gus"}, "Write a story about an owl named Gus."),
    ({"word": "shiny", "plot": "lost", "thing": "drum", "hero": "frog"},
     "Write a story about a frog who loses a drum. Use the word shiny."),
    ({"plot": "lost"}, "Write a story about someone who loses something."),
    ({"plot": "bought", "look": "old bag"}, "Write a story about someone who works to buy an old bag."),
    ({"plot": "dark", "look": "old bag"},
     "Write a story about someone who is afraid at night. There is an old bag in it."),
    ({"word": "brave", "feeling": "glad"}, "Write a story. Use the word brave. In the end the hero is glad."),
    ({"place": "the park", "food": "egg", "friend": "Rosa"},
     "Write a story. There is an egg in it. They go to the park. The friend is Rosa."),
])  # fmt: skip
def test_render_prompt_phrases_constraints(constraints, prompt):
    assert render_prompt(constraints) == prompt


def test_held_out_constraint_pairs_do_not_occur_in_training():
    train, held_out = (
        [
            conversation[0].constraints
            for conversation in first_conversations(n, {"story": 1.0}, held_out=which)
        ]
        for n, which in ((6000, False), (300, True))
    )
    trained = {pair for constraints in train for pair in combinations(sorted(constraints.items()), 2)}
    singles = {item for constraints in train for item in constraints.items()}
    for constraints in held_out:
        pairs = set(combinations(sorted(constraints.items()), 2))
        assert pairs - trained, constraints
        assert is_held_out(constraints)
    items = [item for constraints in held_out for item in constraints.items()]
    known = [item in singles for item in items if item[0] != "look"]
    assert sum(known) > 0.98 * len(known)
    assert not any(map(is_held_out, train))


def test_conversations_depend_on_the_seed_alone():
    assert first_conversations(20) == first_conversations(20) != first_conversations(20, seed=2)
    assert first_conversations(20)[:5] == first_conversations(5)


def test_each_task_has_its_form():
    for name in TASKS:
        for conversation in first_conversations(30, {name: 1.0}):
            texts = [turn.answer for turn in conversation] + [turn.prompt for turn in conversation]
            assert all(text == text.strip() != "" for text in texts)
            assert len(conversation) == (4 if name == "chat" else 1)
            if name == "continuation":
                beginning = conversation[0].prompt.removeprefix("Go on: ")
                assert any(
                    satisfied_values(f"{beginning}{gap}{conversation[0].answer}")["ending"] for gap in " \n"
                )


def test_task_frequency_follows_the_weights():
    sample = first_conversations(600, {"story": 3.0, "chat": 1.0})
    fraction = sum(len(conversation) == 1 for conversation in sample) / len(sample)
    # Within three standard errors.
    assert fraction == pytest.approx(0.75, abs=0.06)


def test_chat_asks_about_its_story():
    [conversation] = first_conversations(1, {"chat": 1.0})
    assert render(conversation, "").startswith(
        f"> {conversation[0].prompt}\n{conversation[0].answer}\n> {conversation[1].prompt}\n"
    )
    assert {kind for turn in conversation[1:] for kind in turn.constraints} == {"summary", "question"}
