"""The section `sample` and the parameters of generation."""

import pytest

from slm.core.config import PARAMS_FILE
from slm.generate.params import DEFAULTS, SampleParams, generation_params
from slm.model.gpt import new_gpt
from slm.serve.page import render_page
from tests.project import ROOT
from tests.tiny import SAMPLE, complaint, model_params, sample_params


@pytest.mark.parametrize(
    ("key", "value", "expected"),
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
def test_sample_params_invalid_value_is_reported(key, value, expected):
    line = complaint(SampleParams, {**SAMPLE, key: value})
    assert line.startswith(f"params.yaml: sample.{key}: must be ")
    assert line.endswith(f", got {'null' if value is None else repr(value)}")
    assert expected in line
    assert "\n" not in line


def test_sample_params_require_a_prompt():
    assert "sample.prompts: must have at least 1 item" in complaint(SampleParams, {**SAMPLE, "prompts": []})


def test_sample_params_non_string_prompt_is_reported_by_index():
    assert "sample.prompts.1: must be a valid string, got 7" in complaint(
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
def test_describe_lists_only_settings_in_effect(changes, words):
    assert sample_params(**changes).describe() == words


def test_default_temperature_is_that_of_params_yaml():
    assert generation_params().temperature == SampleParams.load(ROOT / PARAMS_FILE).temperature


def test_default_temperature_is_that_of_the_web_page():
    page = render_page(new_gpt(model_params(), vocab_size=9))
    [slider] = [line for line in page.splitlines() if 'name="temperature"' in line]
    assert f'value="{DEFAULTS["temperature"]:g}"' in slider
