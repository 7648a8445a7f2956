"""Constraints that a story satisfies, and the chance level of each kind."""

import pytest

from slm.data.statistics import wilson_interval
from slm.eval.constraints import KindScore, satisfied_values, score, summarize
from tests.storygrammar.test_consistency import STORY


def test_satisfied_values_are_those_of_the_story():
    values = satisfied_values(STORY)
    words = values.pop("word")
    assert {"kind", "sad", "fan", "statue"} <= words
    assert not {"Tom", "sadness", "fly"} & words
    assert values == {
        "name": {"Tom"},
        "hero": {"boy"},
        "plot": {"lost"},
        "thing": {"fan"},
        "look": {"tiny fan"},
        # What is seen may be food.
        "food": {"three clouds"},
        "place": {"the park"},
        "friend": {"Rosa"},
        "clothes": {"hat"},
        "weather": {"sunny"},
        "hobby": {"dance"},
        "feeling": {"happy"},
        "ending": {"well"},
        "summary": {STORY},
        "question": {STORY},
    }


@pytest.mark.parametrize(("old", "new", "kind", "value"), [
    ("named Tom", "named Tim", "name", "Tim"),
    ("kind boy", "kind frog", "hero", "frog"),
    ("tiny fan from", "big bell from", "look", "big bell"),
    ("red hat", "red cap", "clothes", "cap"),
    ("Now Tom was happy, not sad.", "Now Tom felt glad, not sad.", "feeling", "glad"),
    ("Now Tom was happy, not sad.", "Now Tom was still sad.", "ending", "well"),
])  # fmt: skip
def test_changed_story_satisfies_the_changed_value(old, new, kind, value):
    assert STORY.count(old) == 1
    changed = satisfied_values(STORY.replace(old, new))[kind]
    assert changed == ({value} if kind != "ending" else set())
    assert changed != satisfied_values(STORY)[kind]


def test_text_without_a_story_satisfies_no_constraint():
    satisfied = satisfied_values("> > sdf. 7!")
    assert {kind for kind, values in satisfied.items() if values - {""}} <= {"word", "summary", "question"}


def test_chance_is_the_rate_over_constraints_of_other_prompts():
    answers = [
        ({"word": "sad", "question": "A hat."}, "he was sad"),
        ({"word": "fan", "question": "A hat."}, "a fan, so sad"),
        ({"word": "egg", "question": "Tom."}, "A hat."),
        # The only constraint of its kind.
        ({"name": "Tom"}, STORY),
    ]
    rows = {row.kind: row for row in score(answers)}
    assert rows.keys() == {"word", "question"}
    assert rows["word"] == KindScore("word", 3, pytest.approx(2 / 3), pytest.approx(1 / 6))
    assert rows["question"] == KindScore("question", 3, 0.0, pytest.approx(2 / 6))


def test_kinds_with_a_high_chance_level_do_not_count():
    rows = [
        KindScore("name", 10, 0.9, 0.1),
        KindScore("plot", 30, 0.5, 0.3),
        KindScore("ending", 90, 1.0, 0.99),
    ]
    rows.append(KindScore("question", 20, 0.25, 0.05))
    assert [row.counts for row in rows] == [True, True, False, False]
    assert summarize(rows) == {
        "constraint_acc": pytest.approx(24 / 40),
        "constraint_acc_ci95": pytest.approx(wilson_interval(24, 40)),
        "constraint_acc_count": 40,
        "exact_match": pytest.approx(5 / 20),
        "exact_match_ci95": pytest.approx(wilson_interval(5, 20)),
        "exact_match_count": 20,
    }
    assert summarize([]) == {}
