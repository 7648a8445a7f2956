"""Tests of reading initial weights in Hugging Face's format."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from slm.core.config import NOT_SET
from slm.core.errors import UserError
from slm.export.huggingface import write_folder
from slm.model.gpt import count_params, load_model, new_gpt
from slm.model.huggingface import read_pretrained
from slm.train.trainer import train
from tests.export_models import MODELS, random_model, write_project
from tests.tiny import model_params, train_params
from tests.train.test_trainer import VOCAB, windows

GPT2 = {"n_layer": 2, "n_head": 3, "n_embd": 12}  # of tests.tiny


@pytest.fixture(params=MODELS)
def exported(request, tmp_path):
    """A model, and the folder that it was exported to."""
    model, tokenizer, about = write_project(tmp_path, request.param)
    write_folder(model, tokenizer, about, tmp_path / "start")
    return model, tmp_path / "start"


def read(model, folder, **changes):
    """What training would begin with if some params were others."""
    params = model.params.model_copy(update=changes)
    return read_pretrained(folder, params, model.vocab_size, folder.parent / "models/tokenizer.json")


def line_of(*arguments, **changes) -> str:
    with pytest.raises(UserError) as caught:
        read(*arguments, **changes)
    return str(caught.value)


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def test_exported_model_is_read_back(exported):
    model, folder = exported
    other = new_gpt(model.params, model.vocab_size)
    other.load_state_dict(read(model, folder))
    ids = torch.arange(20)[None]
    torch.testing.assert_close(other(ids), model(ids), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "kind", [GPT2LMHeadModel, GPT2Model]
)  # with a prefix, and without, as it was published
def test_gpt2_from_transformers_has_same_logits(tmp_path, kind):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCAB, n_positions=8, bos_token_id=0, eos_token_id=0, **GPT2)
    theirs = kind(config)
    theirs.save_pretrained(tmp_path / "start")
    if kind is GPT2Model:  # published with the masks of attention
        masks = {f"h.{n}.attn.bias": torch.ones(1, 1, 8, 8) for n in range(2)}
        change_weights(tmp_path / "start", lambda weights: weights.update(masks))
    params = model_params()
    weights = read_pretrained(tmp_path / "start", params, VOCAB, tmp_path / "none")
    model = new_gpt(params, VOCAB).eval()
    model.load_state_dict(weights)
    gpt2 = theirs.transformer if kind is GPT2LMHeadModel else theirs
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    hidden = gpt2.eval()(ids).last_hidden_state
    torch.testing.assert_close(model(ids), hidden @ gpt2.wte.weight.T)


def test_training_starts_from_given_weights(tmp_path):
    params, steps = model_params(), train_params(max_steps=30, eval_interval=10)
    first = train(params, steps, windows(steps), VOCAB, tmp_path / "models")
    weights = load_model(tmp_path / "models").state_dict()
    second = train(params, steps, windows(steps), VOCAB, tmp_path / "second", weights=weights)
    assert second.val_curve[0].val_loss == first.summary.best_val_loss
    assert second.summary.best_val_loss < first.summary.best_val_loss


def test_read_pretrained_without_a_folder_returns_none(tmp_path):
    model = random_model("gelu", 300)
    assert read(model, Path(NOT_SET)) is None
    assert line_of(model, tmp_path / "none").endswith(
        "none: no such folder; train.init_from must be a folder, or data/none"
    )


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"n_layer": 3}, ["n_layer: must be 2 with train.init_from start, got 3"]),
        (
            {"n_layer": 1, "n_head": 4, "n_kv_head": None, "n_embd": 64, "block_size": 8},
            [f"{key}: must be " for key in ("n_layer", "n_head", "n_kv_head", "n_embd", "block_size")],
        ),
        (
            {"activation": "relu2", "tie_embeddings": True},
            [
                "activation: must be gelu with train.init_from start, got relu2",
                "tie_embeddings: must be False",
            ],
        ),
        ({"activation": "swiglu"}, ["activation: must be gelu with train.init_from start, got swiglu"]),
    ],
)
def test_each_mismatched_param_has_a_line(tmp_path, monkeypatch, changes, lines):
    monkeypatch.chdir(tmp_path)
    model, tokenizer, about = write_project(tmp_path, "gelu")
    write_folder(model, tokenizer, about, tmp_path / "start")
    params = model.params.model_copy(update=changes)
    with pytest.raises(UserError) as caught:
        read_pretrained(tmp_path / "start", params, model.vocab_size, tmp_path / "models/tokenizer.json")
    found = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    assert [line.startswith(f"params.yaml: model.{start}") for line, start in zip(found, lines, strict=True)]
    assert all(f"model.{start}" in line for line, start in zip(found, lines, strict=True))


def test_other_architecture_is_refused(exported):
    model, folder = exported
    is_classic = model.params.architecture == "gpt2"
    other = "rope" if is_classic else "gpt2"
    line = "model.architecture: must be "
    assert line + model.params.architecture in line_of(model, folder, architecture=other)
    change_json(folder / "config.json", model_type="llama")
    said = line_of(model, folder)
    assert said.endswith("model_type: must be one of gpt2, nanochat, qwen3, got 'llama'")


def test_unsupported_config_value_is_refused(exported):
    model, folder = exported
    key, value = {
        "gpt2": ("layer_norm_epsilon", 1e-6),
        "rope": ("rope_parameters", {"rope_type": "default", "rope_theta": 5.0}),
    }[model.params.architecture]
    change_json(folder / "config.json", **{key: value})
    assert f"config.json: {key}: must be " in line_of(model, folder)


def test_nanochat_default_softcap_is_refused(tmp_path):
    model, tokenizer, about = write_project(tmp_path, "gelu")
    write_folder(model, tokenizer, about, tmp_path / "start")
    config = json.loads((tmp_path / "start/config.json").read_text())
    del config["final_logit_softcapping"]
    (tmp_path / "start/config.json").write_text(json.dumps(config))
    assert line_of(model, tmp_path / "start").endswith("config.json: final_logit_softcapping: missing")


def test_other_vocabulary_is_refused(exported):
    model, folder = exported
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["e"], vocabulary["t"] = vocabulary["t"], vocabulary["e"]
    path.write_text(json.dumps(content))
    assert "tokenizer.json: 2 of 300 tokens differ from " in line_of(model, folder)
    path.unlink()
    assert read(model, folder)
    change_json(folder / "config.json", vocab_size=50257)
    assert line_of(model, folder).endswith("vocab_size: must be 300, the size of the tokenizer, got 50257")


def test_missing_and_extra_weights_are_refused(exported):
    model, folder = exported
    change_weights(folder, lambda weights: weights.update({"model.zebra": torch.zeros(1)}))
    assert "model.zebra: must be absent to match config.json, got torch.float32 of shape (1,)" in line_of(
        model, folder
    )
    change_weights(folder, lambda weights: (weights.pop("model.zebra"), weights.pop(min(weights))))
    assert line_of(model, folder).endswith("got absent")
    for name in ("model.safetensors", "config.json"):
        (folder / name).unlink()
        assert line_of(model, folder).endswith(
            f"{name}: no such file; train.init_from needs config.json and model.safetensors"
        )


def test_half_precision_and_duplicate_head_are_read(tmp_path):
    model, tokenizer, about = write_project(tmp_path, "gpt2")
    write_folder(model, tokenizer, about, tmp_path / "start")
    expected = read(model, tmp_path / "start")

    def halve(weights):
        weights["lm_head.weight"] = weights["transformer.wte.weight"].clone()
        weights.update({name: weight.half() for name, weight in weights.items()})

    change_weights(tmp_path / "start", halve)
    found = read(model, tmp_path / "start")
    assert sum(weight.numel() for weight in found.values()) == count_params(model)
    for name, weight in found.items():
        assert torch.equal(weight, expected[name].half().float())
