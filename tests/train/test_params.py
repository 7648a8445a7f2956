"""Tests of the section `train` of params.yaml."""

import pytest

from slm.train.params import TrainParams
from tests.tiny import TRAIN, complaint, train_params


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("seed", -1, "greater than or equal to 0"),
        ("batch_size", 0, "greater than or equal to 1"),
        ("init_from", "", "at least 1 character"),
        ("grad_accum_steps", 0, "greater than or equal to 1"),
        ("max_steps", 1e3, "valid integer"),
        ("learning_rate", 0.0, "greater than 0"),
        ("learning_rate", 11.0, "less than or equal to 10"),
        ("learning_rate", "1e-3", "valid number"),
        ("min_lr", 0.02, "at most learning_rate = 0.01"),
        ("warmup_steps", 21, "at most max_steps = 20"),
        ("weight_decay", -0.1, "greater than or equal to 0"),
        ("beta1", 1.0, "less than 1"),
        ("beta2", -0.5, "greater than or equal to 0"),
        ("grad_clip", -1.0, "greater than or equal to 0"),
        ("grad_clip", float("inf"), "finite number"),
        ("eval_interval", 0, "greater than or equal to 1"),
        ("eval_tokens", -1, "greater than or equal to 0"),
        ("patience", -1, "greater than or equal to 0"),
        ("dtype", "fp8", "'auto', 'float32', 'bfloat16' or 'float16'"),
    ],
)
def test_wrong_value_is_reported_with_what_is_expected(key, value, expected):
    line = complaint(TrainParams, {**TRAIN, key: value})
    assert line.startswith(f"params.yaml: train.{key}: must ")
    assert line.endswith(f", got {value!r}")
    assert expected in line
    assert "\n" not in line


def test_compile_is_auto_or_a_boolean():
    assert [train_params(compile=value).compile for value in ("auto", True, False)] == ["auto", True, False]
    line = complaint(TrainParams, {**TRAIN, "compile": "yes"})
    assert line == "params.yaml: train.compile: must be 'auto' or a valid boolean, got 'yes'"


def test_extreme_values_are_valid():
    train_params(min_lr=0.01, warmup_steps=20, weight_decay=0.0, beta1=0.0, grad_clip=0.0)
