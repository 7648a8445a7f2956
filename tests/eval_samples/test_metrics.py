"""Metrics of samples, one by one and by temperature, compared with counts by hand."""

import numpy as np
import pytest

from slm.data.documents import Document, write_corpus
from slm.eval_samples.metrics import (
    check_samples,
    summarize_stories,
    unknown_words,
)
from slm.eval_samples.params import EvalSamplesParams
from slm.results.samples import SampleQuality, Story
from slm.tokenizer.tokenizer import encode, train_bpe
from tests.tiny import complaint, sample_params

VALUES = {"num_samples": 7, "max_new_tokens": 9, "temperatures": [1.0, 0.3], "seed": 5}
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


def test_check_samples_keeps_temperature_and_number():
    tokenizer = train_bpe(["a cat and a dog"], 300)
    train = np.array(encode(tokenizer, "a cat and a dog and a cat"), np.uint16)
    texts = ["a cat and a dog", "a dog and a dog!"]
    first, second = (encode(tokenizer, text) for text in texts)

    def no_dogs(text):
        return ["There is a dog."] if "dog!" in text else []

    samples = {0.3: [first, second], 1.0: [second[:3]]}
    checked = check_samples(samples, 3, tokenizer, train, no_dogs)
    assert [(s.temperature, s.sample) for s in checked] == [(0.3, 1), (0.3, 2), (1.0, 1)]
    assert [s.text for s in checked[:2]] == texts
    assert [s.tokens for s in checked] == [len(first), len(second), 3]
    # " dog and a" and " dog and".
    assert [s.longest_copy for s in checked] == [len(first), 3, 2]
    assert [(s.consistent, s.complaints) for s in checked] == [
        (True, []),
        (False, ["There is a dog."]),
        (True, []),
    ]


def test_sample_of_max_new_tokens_has_not_ended():
    tokenizer = train_bpe(["a b c"], 300)
    train = np.array([1], np.uint16)
    checked = check_samples({1.0: [[5, 6, 7], [5, 6], []]}, 3, tokenizer, train, None)
    assert [s.ended for s in checked] == [False, True, True]
    assert [s.tokens for s in checked] == [3, 2, 0]


def test_consistency_is_none_without_a_checker():
    tokenizer = train_bpe(["a b c"], 300)
    [checked] = check_samples({1.0: [[5, 6]]}, 3, tokenizer, np.array([1], np.uint16), None)
    assert (checked.consistent, checked.complaints) == (None, [])
    assert summarize_stories([checked], set()).consistency is None


def test_summarize_stories_matches_counts_by_hand():
    stories = [
        story(text="The cat sat on the mat.", tokens=8, ended=True, longest_copy=4, consistent=True),
        story(text="The cat sat on the blorp", tokens=9, ended=False, longest_copy=4, consistent=False),
        story(text="a b c d a b c d", tokens=90, ended=True, longest_copy=20, consistent=False),
        story(text="", tokens=0, ended=True, longest_copy=0, consistent=True),
    ]
    assert summarize_stories(stories, {"blorp"}) == SampleQuality(
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


def test_unknown_words_are_in_no_training_document(tmp_path):
    train = corpus(tmp_path, "The CATALOG of cats.", "A straße", "It'll do")
    stories = [story(text="The cat ate a zebra"), story(text="STRASSE ll it catalog the of cats 123")]
    assert unknown_words(stories, train) == {"cat", "ate", "zebra"}
    assert unknown_words([story(text="THE cats 7")], train) == set()
    assert unknown_words([story(text="42!")], train) == set()


def test_unknown_words_reads_all_documents(tmp_path):
    train = corpus(tmp_path, *["the the the"] * 5000, "last")
    assert unknown_words([story(text="the last word")], train) == {"word"}


def test_unknown_words_does_not_join_documents(tmp_path):
    train = corpus(tmp_path, "note", "book")
    assert unknown_words([story(text="notebook")], train) == {"notebook"}


def test_all_temperatures_are_sorted_and_distinct():
    params = EvalSamplesParams.check(VALUES)
    assert params.all_temperatures(sample_params(temperature=0.6)) == [0.3, 0.6, 1.0]
    assert params.all_temperatures(sample_params(temperature=1.0)) == [0.3, 1.0]


def test_sampling_keeps_the_other_settings_of_sample():
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
    assert EvalSamplesParams.check(VALUES).sampling(sample, 0.3) == expected


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("num_samples", 0, "eval_samples.num_samples: must be greater than or equal to 1, got 0"),
        ("max_new_tokens", 1.5, "eval_samples.max_new_tokens: must be a valid integer, got 1.5"),
        ("temperatures", 1.0, "eval_samples.temperatures: must be a valid list, got 1.0"),
        (
            "temperatures",
            [0.3, -1],
            "eval_samples.temperatures.1: must be greater than or equal to 0, got -1",
        ),
        ("seed", None, "eval_samples.seed: must be a valid integer, got null"),
    ],
)
def test_eval_samples_params_invalid_value_is_reported(key, value, line):
    assert complaint(EvalSamplesParams, VALUES | {key: value}) == f"params.yaml: {line}"
