"""The section `evaluate`: errors name the key, the value and what is expected."""

import pytest

from slm.eval.params import EvaluateParams
from tests.tiny import HUB, complaint

VALUES = {"batch_size": 4, "stride": None, "ngram_order": 5, "minimal_pairs": 40, "datasets": {}}
TEXT = {"file": "mine.txt", "metric": "bits_per_byte"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("batch_size", 0, "greater than or equal to 1"),
        ("stride", 0, "greater than or equal to 1"),
        ("stride", "half", "valid integer"),
        ("ngram_order", -1, "greater than or equal to 0"),
        ("ngram_order", 21, "less than or equal to 20"),
        ("minimal_pairs", -1, "greater than or equal to 0"),
        ("datasets", [], "a mapping"),
    ],
)
def test_wrong_value_is_reported_with_what_is_expected(key, value, expected):
    line = complaint(EvaluateParams, {**VALUES, key: value})
    assert line.startswith(f"params.yaml: evaluate.{key}: must be ")
    assert line.endswith(f", got {value!r}")
    assert expected in line
    assert "\n" not in line


def test_stride_is_null_or_a_number():
    assert EvaluateParams.check(VALUES).stride is None
    assert EvaluateParams.check({**VALUES, "stride": 1}).stride == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, ": must be a mapping, got None"),
        ({"metric": "bits_per_byte"}, ".file: missing"),
        ({**TEXT, "file": ""}, ".file: must have at least 1 character, got ''"),
        ({**TEXT, "metric": "acc"}, ".metric: must be 'bits_per_byte', 'word_perplexity' or"),
        ({**TEXT, "split": "test"}, ".split: unknown key; must be one of file, metric, hub"),
        ({**TEXT, "hub": HUB}, ".hub: revision must be a commit of 40 hexadecimal digits, got 'main'"),
        ({**TEXT, "hub": {**HUB, "revision": COMMIT, "name": 3}}, ".hub.name: must be a valid string, got 3"),
        (
            {**TEXT, "hub": {**HUB, "revision": COMMIT, "split": ""}},
            ".hub.split: unknown key; ",
        ),
    ],
)
def test_a_text_that_is_wrong_is_named(text, line):
    found = complaint(EvaluateParams, {**VALUES, "datasets": {"good": TEXT, "other": text}})
    assert found.startswith(f"params.yaml: evaluate.datasets.other{line}")
    assert "\n" not in found


@pytest.mark.parametrize("name", ["../other", "a.b", "", "two words"])
def test_a_name_that_can_be_no_file_or_key_is_refused(name):
    found = complaint(EvaluateParams, {**VALUES, "datasets": {name: TEXT}})
    assert found.startswith("params.yaml: evaluate.datasets")
    assert "must match pattern" in found and found.endswith(f", got {name!r}")


def test_a_text_of_the_hub_is_pinned_to_a_commit():
    hub = {**HUB, "revision": COMMIT}
    found = EvaluateParams.check({**VALUES, "datasets": {"wiki-2_test": {**TEXT, "hub": hub}}})
    assert found.datasets["wiki-2_test"].hub.revision == COMMIT
