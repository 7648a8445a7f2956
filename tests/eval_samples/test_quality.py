"""Stories judged one by one and together, on stories whose every number is known."""

import numpy as np
import pytest

from slm.data.documents import Document, write_corpus
from slm.eval_samples.params import EvalSamplesParams
from slm.eval_samples.quality import (
    judge,
    summary,
    unknown_words,
)
from slm.results.samples import SampleQuality, Story
from slm.tokenizer.tokenizer import encode, train_bpe
from tests.tiny import complaint, sample_params

QUALITY = {"num_samples": 7, "max_new_tokens": 9, "temperatures": [1.0, 0.3], "seed": 5}
STORY = Story(
    temperature=0.6,
    sample=1,
    text="The cat sat on the mat.",
    tokens=8,
    ended=True,
    longest_copy=0,
    consistent=None,
    complaints=[],
)


def story(**changes) -> Story:
    return STORY.model_copy(update=changes)


def corpus(folder, *texts):
    write_corpus(
        [*(Document("train", text) for text in texts), Document("validation", "zebra")],
        folder,
        {"source": "files"},
    )
    return folder / "train.parquet"


def test_each_story_is_judged_with_its_temperature_and_number():
    tokenizer = train_bpe(["a cat and a dog"], 300)
    train = np.array(encode(tokenizer, "a cat and a dog and a cat"), np.uint16)
    texts = ["a cat and a dog", "a dog and a dog!"]
    first, second = (encode(tokenizer, text) for text in texts)

    def no_dogs(text):
        return ["There is a dog."] if "dog!" in text else []

    written = {0.3: [first, second], 1.0: [second[:3]]}
    judged = judge(written, 3, tokenizer, train, no_dogs)
    assert [(s.temperature, s.sample) for s in judged] == [(0.3, 1), (0.3, 2), (1.0, 1)]
    assert [s.text for s in judged[:2]] == texts
    assert [s.tokens for s in judged] == [len(first), len(second), 3]
    assert [s.longest_copy for s in judged] == [len(first), 3, 2]  # " dog and a", " dog and"
    assert [(s.consistent, s.complaints) for s in judged] == [
        (True, []),
        (False, ["There is a dog."]),
        (True, []),
    ]


def test_a_story_of_as_many_tokens_as_allowed_has_not_ended():
    tokenizer = train_bpe(["a b c"], 300)
    train = np.array([1], np.uint16)
    judged = judge({1.0: [[5, 6, 7], [5, 6], []]}, 3, tokenizer, train, None)
    assert [s.ended for s in judged] == [False, True, True]
    assert [s.tokens for s in judged] == [3, 2, 0]


def test_where_consistency_is_not_known_nothing_is_said_of_it():
    tokenizer = train_bpe(["a b c"], 300)
    [judged] = judge({1.0: [[5, 6]]}, 3, tokenizer, np.array([1], np.uint16), None)
    assert (judged.consistent, judged.complaints) == (None, [])
    assert summary([judged], set()).consistency is None


def test_a_row_sums_up_the_stories_of_a_temperature():
    stories = [
        story(text="The cat sat on the mat.", tokens=8, ended=True, longest_copy=4, consistent=True),
        story(text="The cat sat on the blorp", tokens=9, ended=False, longest_copy=4, consistent=False),
        story(text="a b c d a b c d", tokens=90, ended=True, longest_copy=20, consistent=False),
        story(text="", tokens=0, ended=True, longest_copy=0, consistent=True),
    ]
    assert summary(stories, {"blorp"}) == SampleQuality(
        temperature=0.6,
        num_samples=4,
        eos_rate=3 / 4,
        distinct_1=10 / 20,
        distinct_2=10 / 20,
        seq_rep_4=1 / 5 / 4,
        vocab_coverage=19 / 20,
        copy_rate=1 / 4,
        longest_copy=20,
        self_bleu_4=2 * (2 / 3) / 4,
        consistency=2 / 4,
    )


def test_unknown_words_are_those_of_no_training_document(tmp_path):
    train = corpus(tmp_path, "The CATALOG of cats.", "A straße", "It'll do")
    stories = [story(text="The cat ate a zebra"), story(text="STRASSE ll it catalog the of cats 123")]
    assert unknown_words(stories, train) == {"cat", "ate", "zebra"}
    assert unknown_words([story(text="THE cats 7")], train) == set()
    assert unknown_words([story(text="42!")], train) == set()


def test_a_word_is_found_in_any_of_many_documents(tmp_path):
    train = corpus(tmp_path, *["the the the"] * 5000, "last")
    assert unknown_words([story(text="the last word")], train) == {"word"}


def test_words_are_not_read_across_documents(tmp_path):
    train = corpus(tmp_path, "note", "book")
    assert unknown_words([story(text="notebook")], train) == {"notebook"}


def test_stories_are_written_at_each_temperature_once_in_rising_order():
    params = EvalSamplesParams.check(QUALITY)
    assert params.all_temperatures(sample_params(temperature=0.6)) == [0.3, 0.6, 1.0]
    assert params.all_temperatures(sample_params(temperature=1.0)) == [0.3, 1.0]


def test_all_but_number_length_seed_and_temperature_is_as_samples_are_drawn():
    sample = sample_params(prompts=["Once"], temperature=0.6, top_k=50, repetition_penalty=1.1)
    expected = sample_params(
        prompts=[""],
        num_samples=7,
        max_new_tokens=9,
        seed=5,
        temperature=0.3,
        top_k=50,
        repetition_penalty=1.1,
    )
    assert EvalSamplesParams.check(QUALITY).sampling(sample, 0.3) == expected


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("num_samples", 0, "eval_samples.num_samples: must be greater than or equal to 1, got 0"),
        ("max_new_tokens", 1.5, "eval_samples.max_new_tokens: must be a valid integer, got 1.5"),
        ("temperatures", 1.0, "eval_samples.temperatures: must be a valid list, got 1.0"),
        (
            "temperatures",
            [0.3, -1],
            "eval_samples.temperatures.1: must be greater than or equal to 0",
        ),
        ("seed", None, "eval_samples.seed: must be a valid integer, got None"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key, value, line):
    assert complaint(EvalSamplesParams, QUALITY | {key: value}) == f"params.yaml: {line}"
