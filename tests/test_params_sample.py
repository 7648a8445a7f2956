"""The section `sample`: what is wrong is named, with what is allowed."""

import pytest

from slm.text.params import SampleParams
from tests.tiny import complaint

VALUES = {
    "prompts": ["", "Once"],
    "num_samples": 1,
    "max_new_tokens": 10,
    "temperature": 0.8,
    "top_k": None,
    "seed": 1,
}


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("prompts", "Once", "valid list"),
        ("num_samples", 0, "greater than or equal to 1"),
        ("max_new_tokens", 0, "greater than or equal to 1"),
        ("temperature", -0.1, "greater than or equal to 0"),
        ("temperature", "hot", "valid number"),
        ("top_k", 0, "greater than or equal to 1"),
        ("seed", -1, "greater than or equal to 0"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key, value, allowed):
    line = complaint(SampleParams, {**VALUES, key: value})
    assert line.startswith(f"params.yaml: sample.{key}: {value!r} ")
    assert allowed in line
    assert "\n" not in line


def test_at_least_one_prompt_is_asked_for():
    assert "sample.prompts: [] " in complaint(SampleParams, {**VALUES, "prompts": []})


def test_a_prompt_that_is_no_text_is_named_by_its_place():
    assert "sample.prompts.1: 7 should be a valid string" in complaint(
        SampleParams, {**VALUES, "prompts": ["a", 7]}
    )
