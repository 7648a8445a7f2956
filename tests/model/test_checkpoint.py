"""Tests of saving and loading models."""

import json

import pytest
import safetensors.torch
import torch

from slm.core.errors import UserError
from slm.model.gpt import load_model, new_gpt, save_model
from tests.tiny import model_params

PARAMS = model_params(dropout=0.1)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = new_gpt(PARAMS, vocab_size=13)
    save_model(model, tmp_path)
    return model, tmp_path


def line_of(folder) -> str:
    """The line a user sees when the model in the folder is loaded."""
    with pytest.raises(UserError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_save_and_load_keep_logits(saved):
    model, folder = saved
    loaded = load_model(folder)
    ids = torch.tensor([[1, 5, 12, 0, 3, 3, 7, 1]])
    assert loaded.params == PARAMS
    assert not loaded.training
    assert torch.equal(loaded(ids), model.eval()(ids))


def test_loaded_model_has_gradients(saved):
    loaded = load_model(saved[1])
    loaded(torch.tensor([[1, 5]])).sum().backward()
    assert all(p.grad is not None for p in loaded.parameters())


def test_tied_weights_are_stored_once(saved):
    model, folder = saved
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    assert sum(w.numel() for w in weights.values()) == sum(p.numel() for p in model.parameters())


def test_save_leaves_no_other_files(saved):
    assert sorted(path.name for path in saved[1].iterdir()) == ["config.json", "model.safetensors"]


def test_failed_save_keeps_old_model(saved):
    _, folder = saved
    other = new_gpt(PARAMS, vocab_size=13)
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()  # so that the second file cannot be written
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"config\.json: could not be written"):
        save_model(other, folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file_is_refused(saved, name):
    (saved[1] / name).unlink()
    assert f"{name}: no such file" in line_of(saved[1])


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights_are_refused(saved, kept):
    path = saved[1] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    assert "model.safetensors: not a complete safetensors file" in line_of(saved[1])


def test_wrong_shape_is_refused(saved):
    change_config(saved[1], vocab_size=14)
    line = line_of(saved[1])
    assert "token_embedding.weight" in line
    assert line.endswith("got torch.float32 of shape (13, 12)")
    assert "must be torch.float32 of shape (14, 12)" in line


def test_missing_and_extra_weights_are_refused(saved):
    path = saved[1] / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    safetensors.torch.save_file({**weights, "zebra": torch.zeros(1)}, path)
    assert "zebra: must be absent to match config.json, got torch.float32 of shape (1,)" in line_of(saved[1])
    del weights["final_norm.bias"]
    safetensors.torch.save_file(weights, path)
    assert line_of(saved[1]).endswith("got absent")


def test_unknown_config_key_is_refused(saved):
    change_config(saved[1], rope=True)
    assert "config.json: rope: unknown key" in line_of(saved[1])


def test_unknown_architecture_is_refused(saved):
    change_config(saved[1], architecture="bert")
    assert "config.json: architecture: must be 'gpt', got 'bert'" in line_of(saved[1])


def test_config_must_be_a_mapping(saved):
    (saved[1] / "config.json").write_text("[1]")
    assert "config.json" in line_of(saved[1])
