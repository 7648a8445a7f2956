"""Tests of the section `model` of params.yaml."""

import subprocess
import sys

import pytest

from slm.model.params import ModelParams
from tests.tiny import MODEL, complaint


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("architecture", "llama", "'rope' or 'gpt2'"),
        ("n_kv_head", 2, "a divisor of n_head = 3"),
        ("n_kv_head", 0, "greater than or equal to 1"),
        ("activation", "relu", "'gelu', 'relu2' or 'swiglu'"),
        ("tie_embeddings", "no", "valid boolean"),
        ("n_layer", 0, "greater than or equal to 1"),
        ("n_layer", 2.5, "valid integer"),
        ("n_head", -1, "greater than or equal to 1"),
        ("n_embd", 13, "a multiple of n_head = 3"),
        ("n_embd", 10**6, "less than or equal to 100000"),
        ("block_size", "long", "valid integer"),
        ("dropout", 1.0, "less than 1"),
        ("dropout", -0.1, "greater than or equal to 0"),
        ("dropout", float("nan"), "finite number"),
        ("bias", 1, "valid boolean"),
    ],
)
def test_wrong_value_is_reported_with_what_is_expected(key, value, expected):
    line = complaint(ModelParams, {**MODEL, key: value})
    assert line.startswith(f"params.yaml: model.{key}: must be ")
    assert line.endswith(f", got {value!r}")
    assert expected in line
    assert "\n" not in line


def test_wrong_n_head_gives_one_error():
    assert "n_embd" not in complaint(ModelParams, {**MODEL, "n_head": 0})


@pytest.mark.parametrize("n_embd", [9, 15, 33])
def test_rope_needs_even_head_dim(n_embd):
    line = complaint(ModelParams, {**MODEL, "architecture": "rope", "n_embd": n_embd})
    assert line.startswith("params.yaml: model.n_embd: must be a multiple of 2 × n_head = 6, because rotary ")
    assert ModelParams.check({**MODEL, "n_embd": n_embd}).head_dim == n_embd // 3  # classic takes any


def test_missing_and_unknown_keys_are_refused():
    values = {**MODEL, "n_heads": 3}
    del values["n_head"]
    line = complaint(ModelParams, values)
    assert "params.yaml: model.n_head: missing" in line
    assert "params.yaml: model.n_heads: unknown key; must be one of architecture, n_layer, n_head, " in line


@pytest.mark.parametrize("package", ["data", "model", "train", "eval", "generate", "eval_samples", "sft"])
def test_params_do_not_import_torch(package):
    code = f"import slm.{package}.params, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
