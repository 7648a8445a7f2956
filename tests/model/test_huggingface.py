"""Tests of the conversion to and from transformers."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from slm.core.errors import UserError
from slm.model.gpt import GPT, new_gpt, norm
from slm.model.huggingface import ARCHITECTURES, from_weights, to_config, to_weights
from tests.tiny import shaken

VOCAB, BLOCK_SIZE = 11, 8
ROPE = {"architecture": "rope", "n_head": 4, "n_kv_head": 2, "n_embd": 16}
MODELS = {
    "gpt2": {"bias": True},
    "classic without biases": {"bias": False},
    "gelu": {**ROPE, "activation": "gelu"},
    "relu2, tied": {**ROPE, "n_kv_head": 1, "tie_embeddings": True},
    "swiglu": {**ROPE, "activation": "swiglu"},
    "swiglu, tied": {**ROPE, "activation": "swiglu", "n_kv_head": None, "tie_embeddings": True},
}
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [0, 10, 7, 7, 7, 2, 8, 1]])
LONG = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4]])


def random_model(**changes) -> GPT:
    return shaken(VOCAB, by=0.5, block_size=BLOCK_SIZE, **changes)


def in_transformers(model: GPT):
    """The model there, in float64."""
    other = AutoModelForCausalLM.from_config(AutoConfig.for_model(**to_config(model, end_of_text=0)))
    missing, unexpected = other.load_state_dict(to_weights(model), strict=False)
    assert (set(missing) <= {"lm_head.weight"}, unexpected) == (True, [])  # a tied head is not stored
    return other.double().eval()


def meta(model: GPT) -> GPT:
    with torch.device("meta"):
        return new_gpt(model.params, model.vocab_size)


@pytest.mark.parametrize("name", MODELS)
def test_logits_match_transformers(name):
    model = random_model(**MODELS[name])
    other = in_transformers(model)
    expected = model.double()(IDS)
    assert expected.std() > 0.5
    torch.testing.assert_close(other(IDS).logits, expected, rtol=0, atol=1e-5)  # its angles are float32


@pytest.mark.parametrize("name", MODELS)
def test_weight_names_match_transformers(name):
    model = random_model(**MODELS[name])
    config = AutoConfig.for_model(**to_config(model, end_of_text=0))
    with torch.device("meta"):
        other = AutoModelForCausalLM.from_config(config)
    assert type(other).__name__ == ARCHITECTURES[config.model_type].class_name
    assert {n: p.shape for n, p in other.named_parameters()} == {
        n: w.shape for n, w in to_weights(model).items()
    }


def test_qwen3_window_matches_past_block_size():
    model = random_model(**MODELS["swiglu"])
    other = in_transformers(model)
    torch.testing.assert_close(other(LONG).logits, model.double()(LONG), rtol=0, atol=1e-5)


def test_nanochat_matches_within_block_size():
    model = random_model(**MODELS["gelu"])
    theirs, ours = in_transformers(model)(LONG).logits, model.double()(LONG)
    torch.testing.assert_close(theirs[:, :BLOCK_SIZE], ours[:, :BLOCK_SIZE], rtol=0, atol=1e-5)
    assert (theirs[:, BLOCK_SIZE:] - ours[:, BLOCK_SIZE:]).abs().amax() > 0.01


@pytest.mark.parametrize("name", MODELS)
def test_from_weights_inverts_to_weights(name):
    model = random_model(**MODELS[name])
    other = meta(model)
    other.load_state_dict(from_weights(to_weights(model), other, Path("w")), assign=True)
    torch.testing.assert_close(other.eval()(IDS), model(IDS), rtol=0, atol=1e-5)
    if name != "swiglu":  # whose embedding is only known by its norm
        assert all(torch.equal(w, model.state_dict()[n]) for n, w in other.state_dict().items())


@given(st.floats(1e-6, 100))
def test_embedding_is_recovered_from_its_norm(size):
    model = random_model(**MODELS["swiglu"])
    with torch.no_grad():
        model.token_embedding.weight.mul_(size)
    found = from_weights(to_weights(model), meta(model), Path("w"))["token_embedding.weight"]
    torch.testing.assert_close(norm(found), norm(model.token_embedding.weight), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "weight", "line"),
    [
        ("classic without biases", "transformer.h.1.ln_2.bias", "must be 0 throughout for model.bias: false"),
        (
            "swiglu",
            "model.layers.0.self_attn.q_norm.weight",
            "must be 1 throughout for model.activation: swiglu",
        ),
        ("swiglu", "model.embed_tokens.weight", "must be normalized for model.activation: swiglu"),
        ("swiglu, tied", "lm_head.weight", "must be the embedding for model.tie_embeddings: true"),
    ],
)
def test_unsupported_weights_are_refused(name, weight, line):
    model = random_model(**MODELS[name])
    weights = to_weights(model)
    weights[weight] = weights[weight] * 2 + 1
    with pytest.raises(UserError) as caught:
        from_weights(weights, meta(model), Path("w"))
    assert str(caught.value) == f"w: {weight}: {line}"
