"""The section `evaluate`: what is wrong is named, with what is allowed."""

import pytest

from slm.evaluation.params import EvaluateParams
from tests.tiny import complaint

VALUES = {"batch_size": 4, "stride": None, "ngram_order": 5}


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("batch_size", 0, "greater than or equal to 1"),
        ("stride", 0, "greater than or equal to 1"),
        ("stride", "half", "valid integer"),
        ("ngram_order", -1, "greater than or equal to 0"),
        ("ngram_order", 21, "less than or equal to 20"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key, value, allowed):
    line = complaint(EvaluateParams, {**VALUES, key: value})
    assert line.startswith(f"params.yaml: evaluate.{key}: {value!r} ")
    assert allowed in line
    assert "\n" not in line


def test_stride_is_null_or_a_number():
    assert EvaluateParams.check(VALUES).stride is None
    assert EvaluateParams.check({**VALUES, "stride": 1}).stride == 1
