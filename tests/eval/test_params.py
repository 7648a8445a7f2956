"""The section `evaluate` of params.yaml."""

import pytest

from slm.eval.params import EvaluateParams
from tests.tiny import HUB, complaint

VALUES = {"batch_size": 4, "stride": None, "ngram_order": 5, "minimal_pairs": 40, "datasets": {}}
DATASET = {"file": "mine.txt", "metric": "bits_per_byte"}
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
def test_evaluate_params_invalid_value_is_reported(key, value, expected):
    line = complaint(EvaluateParams, {**VALUES, key: value})
    assert line.startswith(f"params.yaml: evaluate.{key}: must be ")
    assert line.endswith(f", got {value!r}")
    assert expected in line
    assert "\n" not in line


def test_stride_may_be_null():
    assert EvaluateParams.check(VALUES).stride is None
    assert EvaluateParams.check({**VALUES, "stride": 1}).stride == 1


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (None, ": must be a mapping, got null"),
        ({"metric": "bits_per_byte"}, ".file: missing"),
        ({**DATASET, "file": ""}, ".file: must have at least 1 character, got ''"),
        ({**DATASET, "metric": "acc"}, ".metric: must be 'bits_per_byte', 'word_perplexity' or"),
        ({**DATASET, "split": "test"}, ".split: unknown key; must be one of file, metric, hub"),
        ({**DATASET, "hub": HUB}, ".hub: revision must be a commit of 40 hexadecimal digits, got 'main'"),
        ({**DATASET, "hub": {**HUB, "revision": COMMIT, "name": 3}}, ".hub.name: must be a valid string"),
        (
            {**DATASET, "hub": {**HUB, "revision": COMMIT, "split": ""}},
            ".hub.split: unknown key; must be one of name",
        ),
    ],
)
def test_invalid_dataset_is_reported(dataset, expected):
    line = complaint(EvaluateParams, {**VALUES, "datasets": {"good": DATASET, "other": dataset}})
    assert line.startswith(f"params.yaml: evaluate.datasets.other{expected}")
    assert "\n" not in line


@pytest.mark.parametrize("name", ["../other", "a.b", "", "two words"])
def test_invalid_dataset_name_is_reported(name):
    line = complaint(EvaluateParams, {**VALUES, "datasets": {name: DATASET}})
    assert line.startswith("params.yaml: evaluate.datasets")
    assert "must match pattern" in line and line.endswith(f", got {name!r}")


def test_hub_dataset_requires_a_commit():
    hub = {**HUB, "revision": COMMIT}
    params = EvaluateParams.check({**VALUES, "datasets": {"wiki-2_test": {**DATASET, "hub": hub}}})
    assert params.datasets["wiki-2_test"].hub.revision == COMMIT


def test_old_key_is_reported_with_its_new_name():
    values = {key: value for key, value in VALUES.items() if key != "datasets"}
    line = complaint(EvaluateParams, {**values, "corpora": {}})
    assert line == "params.yaml: evaluate.corpora: was renamed to evaluate.datasets"
