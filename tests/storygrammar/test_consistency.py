"""The consistency checker accepts stories of the grammar and rejects those with a planted contradiction."""

import re
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storygrammar.checker.consistency import Findings, check, find_contradictions
from storygrammar.checker.sentences import match_sentence, split_sentences
from storygrammar.grammar.generator import PLOTS, stories
from tests.contradictions import EDITS, plant

STORY = """\
Once there was a kind boy named Tom. Tom loved his mom, always wore a red hat and liked to dance. Tom had a \
tiny fan from his aunt and liked to wave it.
One sunny day, Tom went to the park alone. Tom counted three clouds. The fan fell down under a bench, but \
Tom ran on. Then Tom cried, "Where is my fan?" Tom was sad. Soon Tom met a brave girl named Rosa. They \
looked by the statue, but in vain. Then Rosa smiled: under a bench was the tiny fan! Now Tom was happy, not \
sad.
At home, Tom drew Rosa and the tiny fan and the three clouds. Tom still wanted to dance."""


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [story.text for story in islice(stories(1234), 2000)]


def changed(old: str, new: str) -> str:
    assert STORY.count(old) == 1
    return STORY.replace(old, new)


def test_grammar_stories_are_consistent(texts):
    for text in texts:
        assert check(text) == Findings(contradictions=[], stray_sentences=[]), text


@pytest.mark.slow
def test_many_grammar_stories_are_consistent():
    for story in islice(stories(4321), 100_000):
        assert check(story.text) == Findings(contradictions=[], stray_sentences=[]), story.text


@pytest.mark.parametrize("kind", EDITS)
def test_planted_contradiction_is_detected(kind, texts):
    random = Random(kind)
    planted = list(islice(filter(None, (plant(kind, text, random) for text in texts)), 300))
    missed = [text for text in planted if not find_contradictions(text)]
    assert len(planted) == 300
    assert len(missed) <= 0.05 * 300, missed[0]


def test_planted_contradictions_depend_on_the_seed(texts):
    for kind in EDITS:
        one, same, other = ([plant(kind, text, Random(seed)) for text in texts[:50]] for seed in (1, 1, 2))
        assert one == same != other


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("loved his mom", "loved her mom", "Tom is “he”, then “she”"),
        ("kind boy", "kind girl", "Tom is “she”, then “he”"),
        ("was the tiny fan", "was the golden fan", "the fan is tiny, then golden"),
        ("to wave it", "to fly it", "the fan is there to wave, then to fly"),
        ("is my fan", "is your fan", '“your” instead of “my”: Then Tom cried, "Where is your fan?"'),
        ("by the statue", "near the lions", "“near the lions” belongs to the zoo, but this is the park"),
        ("went to the park", "went to the zoo", "“under a bench” belongs to the park, but this is the zoo"),
        ("under a bench was", "by the statue was", "the place: first “under a bench”, then “by the statue”"),
        ("Now Tom", "Now Kevin", "Tom is called Kevin"),
        ("Now Tom", "Now Rosa", "Tom is mixed up with Rosa"),
        ("girl named Rosa", "boy named Tom", "two are called Tom"),
        ("happy, not sad", "still sad", "it does not end well: Now Tom was still sad."),
        ("happy, not sad", "happy and no longer cross", "the feeling: first “sad”, then “cross”"),
        ("the three clouds", "the two dogs", "the memory: first “three clouds”, then “two dogs”"),
        ("still wanted to dance", "still wanted to read", "the hobby: first “dance”, then “read”"),
        ("Now Tom was happy, not sad.", "Now it was late for Kevin.", "Kevin comes from nowhere"),
    ],
)  # fmt: skip
def test_message_names_the_contradiction(old, new, complaint):
    assert complaint in find_contradictions(changed(old, new))


def test_branches_of_a_plot_do_not_mix():
    noise = next(
        story.text for story in stories(1) if "and it stayed" in story.text and "It had no home" in story.text
    )
    assert find_contradictions(noise) == []
    (complaint,) = find_contradictions(noise.replace("It had no home.", "It had lost its way."))
    assert "does not go with “It had lost its way.”" in complaint


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # Words that the grammar does not have there.
        ("One sunny day", "One stormy night"),
        ("Tom was sad.", "Tom was so very tired and sighed."),
        ("loved his mom", "loved his goldfish"),
        # Much the same feeling.
        ("not sad", "not unhappy"),
        ("Then Rosa smiled", "Then she smiled"),
    ],
)
def test_small_deviations_are_accepted(old, new):
    assert find_contradictions(STORY) == []
    assert find_contradictions(changed(old, new)) == []


def test_stray_sentence_is_not_a_contradiction():
    findings = check(changed("Tom counted three clouds.", "Tom yawned and jumped around."))
    assert findings == Findings(contradictions=[], stray_sentences=["Tom yawned and jumped around."])


def test_story_of_stray_sentences_is_rejected():
    lost = changed("Tom counted three clouds.", "Tom yawned. The end is near. The end is here.")
    assert find_contradictions(lost) == ["3 of 16 sentences do not belong to the story: Tom yawned."]
    assert find_contradictions("") != []
    assert find_contradictions("It was the best of times, it was the worst of times.") != []


@given(st.text() | st.lists(st.sampled_from(re.findall(r"\w+|\W+", STORY))).map("".join))
def test_checker_reads_any_text(text):
    assert find_contradictions(text) != []


def test_all_grammar_sentences_match_a_pattern(texts):
    plots = set()
    for text in texts[:200]:
        for sentence in split_sentences(text):
            matches = match_sentence(sentence)
            assert matches, sentence
            plots.update(plot for match in matches for plot in match.pattern.branches)
    assert plots == {plot.__name__ for plot in PLOTS}
