"""The section `model`: what is wrong is named, with what is allowed."""

import subprocess
import sys

import pytest

from slm.model.params import ModelParams
from tests.tiny import MODEL, complaint


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("architecture", "gpt2", "'modern' or 'classic'"),
        ("n_kv_head", 2, "a divisor of n_head, which is 3"),
        ("n_kv_head", 0, "greater than or equal to 1"),
        ("mlp", "relu", "'gelu', 'relu2' or 'swiglu'"),
        ("tied", "no", "valid boolean"),
        ("n_layer", 0, "greater than or equal to 1"),
        ("n_layer", 2.5, "valid integer"),
        ("n_head", -1, "greater than or equal to 1"),
        ("n_embd", 13, "a multiple of n_head, which is 3"),
        ("n_embd", 10**6, "less than or equal to 100000"),
        ("block_size", "long", "valid integer"),
        ("dropout", 1.0, "less than 1"),
        ("dropout", -0.1, "greater than or equal to 0"),
        ("dropout", float("nan"), "finite number"),
        ("bias", 1, "valid boolean"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key, value, allowed):
    line = complaint(ModelParams, {**MODEL, key: value})
    assert line.startswith(f"params.yaml: model.{key}: {value!r} ")
    assert allowed in line
    assert "\n" not in line


def test_a_wrong_n_head_is_not_also_blamed_on_n_embd():
    assert "n_embd" not in complaint(ModelParams, {**MODEL, "n_head": 0})


@pytest.mark.parametrize("n_embd", [9, 15, 33])
def test_rotary_positions_need_heads_of_an_even_size(n_embd):
    line = complaint(ModelParams, {**MODEL, "architecture": "modern", "n_embd": n_embd})
    assert line.startswith(f"params.yaml: model.n_embd: {n_embd} is not allowed; allowed: ")
    assert line.endswith("a multiple of 2 × n_head, which is 3")
    assert ModelParams.check({**MODEL, "n_embd": n_embd}).head_size == n_embd // 3  # classic takes any


def test_missing_and_unknown_keys_are_named():
    values = {**MODEL, "n_heads": 3}
    del values["n_head"]
    line = complaint(ModelParams, values)
    assert "params.yaml: model.n_head: missing" in line
    assert "params.yaml: model.n_heads: unknown key; allowed: architecture, n_layer, n_head, " in line


@pytest.mark.parametrize("package", ["data", "model", "train", "eval", "generate", "eval_samples", "sft"])
def test_sections_are_read_without_torch(package):
    code = f"import slm.{package}.params, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
