"""Requests for stories: what they wish for is there, and what is held out is not trained on."""

import re
from itertools import combinations, islice
from random import Random

import pytest

from slm.eval.constraints import satisfied_values
from slm.sft.chat import render
from slm.sft.conversations import Turn
from storygrammar.grammar.generator import PLOTS, tell
from storygrammar.grammar.teller import Teller
from storygrammar.requests.gists import GISTS, questions, summary
from storygrammar.requests.requests import TASKS, conversations
from storygrammar.requests.wishes import KINDS, is_held_out, request, wishes_of

ALL = dict.fromkeys(TASKS, 1.0)


def some(n: int, tasks=ALL, seed: int = 1, held_out: bool = False):
    talks = islice(conversations(tasks, seed, held_out), n)
    return [[Turn(*turn) for turn in talk] for talk in talks]


@pytest.fixture(scope="module")
def told():
    """Stories, some of each plot, as plot and teller."""
    random, found = Random(3).random, []
    while len(found) < 1200 or len({plot for plot, _ in found}) < len(PLOTS):
        teller = Teller(random)
        found.append((tell(teller), teller))
    return found


def test_every_plot_has_its_few_words():
    assert list(GISTS) and set(GISTS) == {plot.__name__ for plot in PLOTS}


def test_a_story_of_any_plot_can_be_summed_up_and_asked_about_in_its_own_words(told):
    for plot, story in told:
        texts = [summary(plot, story.roles)]
        for question, answer in questions(plot, story.roles):
            assert question.endswith("?")
            texts.append(answer)
            words = re.sub("^(To|In|The|A|An|It was) ", "", answer).rstrip(".")
            assert words.lower() in story.text.lower(), (plot, question, answer)
        assert all(text[0].isupper() and text.endswith(".") and "{" not in text for text in texts)


def test_every_story_grants_what_was_wished_of_it(told):
    random, kinds = Random(4), set()
    for plot, story in told:
        found = satisfied_values(story.text)
        for kind, value in wishes_of(plot, story.roles, random).items():
            assert value in found[kind], (kind, value, story.text)
            kinds.add(kind)
    assert kinds == set(KINDS)


@pytest.mark.parametrize(("wishes", "words"), [
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
def test_a_request_says_its_wishes(wishes, words):
    assert request(wishes) == words


def test_no_training_request_has_a_pair_of_wishes_that_a_held_out_one_is_held_out_for():
    train, held_out = (
        [talk[0].constraints for talk in some(n, {"story": 1.0}, held_out=which)]
        for n, which in ((6000, False), (300, True))
    )
    trained = {pair for wishes in train for pair in combinations(sorted(wishes.items()), 2)}
    singles = {wish for wishes in train for wish in wishes.items()}
    for wishes in held_out:
        pairs = set(combinations(sorted(wishes.items()), 2))
        assert pairs - trained, wishes
        assert is_held_out(wishes)
    known = [wish in singles for wishes in held_out for wish in wishes.items() if wish[0] != "look"]
    assert sum(known) > 0.98 * len(known)
    assert not any(map(is_held_out, train))


def test_the_seed_decides_the_conversations():
    assert some(20) == some(20) != some(20, seed=2)
    assert some(20)[:5] == some(5)


def test_each_task_has_its_form():
    for name in TASKS:
        for talk in some(30, {name: 1.0}):
            texts = [turn.answer for turn in talk] + [turn.prompt for turn in talk]
            assert all(text == text.strip() != "" for text in texts)
            assert len(talk) == (4 if name == "chat" else 1)
            if name == "continuation":
                beginning = talk[0].prompt.removeprefix("Go on: ")
                assert any(satisfied_values(f"{beginning}{gap}{talk[0].answer}")["ending"] for gap in " \n")


def test_tasks_come_as_often_as_they_weigh():
    talks = some(600, {"story": 3.0, "chat": 1.0})
    share = sum(len(talk) == 1 for talk in talks) / len(talks)
    assert share == pytest.approx(0.75, abs=0.06)  # three standard errors


def test_a_conversation_goes_on_about_its_story():
    [talk] = some(1, {"chat": 1.0})
    assert render(talk, "").startswith(f"> {talk[0].prompt}\n{talk[0].answer}\n> {talk[1].prompt}\n")
    assert {kind for turn in talk[1:] for kind in turn.constraints} == {"summary", "question"}
