"""The section `sample`: what is wrong is named, with what is allowed."""

import pytest

from slm.generate.params import SampleParams
from tests.tiny import SAMPLE, complaint, sample_params


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("prompts", "Once", "valid list"),
        ("num_samples", 0, "greater than or equal to 1"),
        ("max_new_tokens", 0, "greater than or equal to 1"),
        ("temperature", -0.1, "greater than or equal to 0"),
        ("temperature", "hot", "valid number"),
        ("top_k", 0, "greater than or equal to 1"),
        ("top_p", 0, "greater than 0"),
        ("top_p", 1.1, "less than or equal to 1"),
        ("min_p", -0.1, "greater than or equal to 0"),
        ("min_p", 1.1, "less than or equal to 1"),
        ("repetition_penalty", 0, "greater than or equal to 0.01"),
        ("repetition_penalty", None, "valid number"),
        ("seed", -1, "greater than or equal to 0"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key, value, allowed):
    line = complaint(SampleParams, {**SAMPLE, key: value})
    assert line.startswith(f"params.yaml: sample.{key}: {value!r} ")
    assert allowed in line
    assert "\n" not in line


def test_at_least_one_prompt_is_asked_for():
    assert "sample.prompts: [] " in complaint(SampleParams, {**SAMPLE, "prompts": []})


def test_a_prompt_that_is_no_text_is_named_by_its_place():
    assert "sample.prompts.1: 7 should be a valid string" in complaint(
        SampleParams, {**SAMPLE, "prompts": ["a", 7]}
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "temperature 1"),
        ({"top_p": 1.0, "min_p": 0.0}, "temperature 1"),
        ({"temperature": 0.6, "top_k": 50}, "temperature 0.6, top-k 50"),
        ({"top_p": 0.9, "min_p": 0.05}, "temperature 1, top-p 0.9, min-p 0.05"),
        ({"temperature": 0.0, "top_k": 50, "top_p": 0.9}, "greedy"),
        ({"temperature": 0.0, "repetition_penalty": 1.2}, "greedy, repetition penalty 1.2"),
    ],
)
def test_what_shapes_the_draws_is_said_in_words_and_nothing_that_is_off(changes, words):
    assert sample_params(**changes).in_words() == words
