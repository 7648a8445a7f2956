"""Recorded probabilities and attention weights are those that the model computes."""

import json
import math

import numpy as np
import pytest
import torch

from slm.core.errors import UserError
from slm.core.files import write_result
from slm.eval.perplexity import token_losses
from slm.generate.inspection import MAX_ATTENTION, AttentionWeights, inspect
from slm.model.gpt import new_gpt
from slm.report.reading import read_result
from slm.results.samples import Inspection
from slm.tokenizer.tokenizer import END_OF_TEXT, decode, encode, train_bpe
from tests.tiny import model_params, shaken

TEXT = "A cat sat on a mat, naïve 猫 and 🐈.\n" * 20
SHAPES = {
    "gpt2": {"architecture": "gpt2", "block_size": 64},
    "rope": {"architecture": "rope", "block_size": 64},
    "grouped queries": {"architecture": "rope", "n_head": 6, "n_kv_head": 2, "block_size": 64},
}


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([TEXT], 280)


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def model(request, tokenizer):
    return shaken(tokenizer.get_vocab_size(), n_embd=24, **request.param)


def values_and_outputs(model, ids):
    """Return each layer's attention weights, values (B, H, T, D) and attention outputs (B, T, H · D)."""
    values, outputs, sizes = [], [], model.params
    for block in model.blocks:
        attention = block.attention
        source = attention.qkv if sizes.architecture == "gpt2" else attention.value
        n_channels = sizes.kv_heads * sizes.head_dim
        source.register_forward_hook(lambda _, __, output, n=n_channels: values.append(output[..., -n:]))
        attention.out.register_forward_pre_hook(lambda _, inputs: outputs.append(inputs[0]))
    with AttentionWeights() as attention, torch.inference_mode():
        model(ids)
    split = [v.unflatten(-1, (sizes.kv_heads, -1)).transpose(1, 2) for v in values]
    groups = sizes.n_head // sizes.kv_heads
    return attention.layers, [v.repeat_interleave(groups, dim=1) for v in split], outputs


def assert_weights_explain_the_outputs(model, n_tokens):
    ids = torch.arange(n_tokens)[None] % model.vocab_size
    weights, values, outputs = values_and_outputs(model, ids)
    assert len(weights) == len(outputs) == model.params.n_layer
    for w, v, output in zip(weights, values, outputs, strict=True):
        torch.testing.assert_close((w @ v).transpose(1, 2).flatten(-2), output, atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_tokens", [1, 2, 64])
def test_weights_times_values_equal_the_attention_output(model, n_tokens):
    assert_weights_explain_the_outputs(model, n_tokens)


def test_windowed_weights_times_values_equal_the_output(tokenizer):
    windowed = shaken(tokenizer.get_vocab_size(), n_embd=24, architecture="rope", block_size=8)
    assert_weights_explain_the_outputs(windowed, n_tokens=20)


def test_recording_attention_does_not_change_logits(model):
    ids = torch.arange(30)[None]
    with torch.inference_mode():
        before = model(ids)
        with AttentionWeights():
            assert torch.equal(model(ids), before)


def test_attention_is_causal_and_sums_to_one(model, tokenizer):
    weights = np.array(inspect(model, tokenizer, encode(tokenizer, TEXT)).attention)
    sizes = model.params
    assert weights.shape == (sizes.n_layer, sizes.n_head, MAX_ATTENTION, MAX_ATTENTION)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=MAX_ATTENTION * 0.0005)
    assert (np.triu(weights, k=1) == 0).all()
    assert len({row.tobytes() for layer in weights for row in layer}) == sizes.n_layer * sizes.n_head


def test_probabilities_match_token_losses(model, tokenizer):
    ids = encode(tokenizer, TEXT)[:60]
    losses = token_losses(model, np.array(ids), tokenizer.token_to_id(END_OF_TEXT), None, batch_size=4)
    probabilities = inspect(model, tokenizer, ids).probabilities
    assert probabilities == pytest.approx([math.exp(-loss) for loss in losses], rel=1e-3)


def test_alternatives_are_the_most_likely_tokens(model, tokenizer):
    ids = encode(tokenizer, TEXT)[:10]
    alternatives = inspect(model, tokenizer, ids).alternatives
    for n, best in enumerate(alternatives):
        with torch.inference_mode():
            logits = model(torch.tensor([[tokenizer.token_to_id(END_OF_TEXT), *ids[:n]]]))[0, -1]
        order = logits.argsort(descending=True)[:5]
        assert [token for token, _ in best] == [decode(tokenizer, [i]) for i in order.tolist()]
        assert [p for _, p in best] == pytest.approx(logits.softmax(-1)[order].tolist(), rel=1e-3)


def test_tokens_concatenate_to_the_text(model, tokenizer):
    text = "A cat 🐈 sat.\n猫"
    ids = [*encode(tokenizer, text), tokenizer.token_to_id(END_OF_TEXT)]
    inspection = inspect(model, tokenizer, ids, n_given=3)
    assert len(inspection.tokens) == len(inspection.probabilities) == len(inspection.alternatives) == len(ids)
    assert "".join(inspection.tokens) == text + END_OF_TEXT
    assert inspection.given == 3


def test_inspection_stops_at_block_size(model, tokenizer):
    ids = encode(tokenizer, TEXT)
    assert len(ids) > 64
    assert len(inspect(model, tokenizer, ids, n_given=100).tokens) == 64
    assert inspect(model, tokenizer, ids, n_given=100).given == 64


def test_inspection_of_one_token_is_valid_json(model, tokenizer):
    inspection = inspect(model, tokenizer, [tokenizer.token_to_id(END_OF_TEXT)])
    assert np.array(inspection.attention).tolist() == np.ones((2, model.params.n_head, 1, 1)).tolist()
    assert Inspection(**json.loads(json.dumps(inspection.model_dump(), allow_nan=False))) == inspection


def test_inspection_survives_a_round_trip(tmp_path):
    tokenizer = train_bpe(["a cat sat"], 270)
    model = new_gpt(model_params(), tokenizer.get_vocab_size()).eval()
    inspection = inspect(model, tokenizer, encode(tokenizer, "a cat"))
    write_result(tmp_path / "inspection.json", inspection, indent=None)
    assert read_result(tmp_path / "inspection.json", Inspection) == inspection


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": ["a"]}, "json: tokens, probabilities and alternatives must have the same length"),
        ({"attention": [[[[1.0, 0.0]]]]}, "json: attention must be square, with at most one row per token"),
        ({"attention": []}, "json: attention must be square"),
        ({"probabilities": [0.5, 1.5]}, r"json: probabilities.1: must be less than or equal to 1"),
    ],
)
def test_inspection_of_inconsistent_shapes_is_rejected(tmp_path, change, message):
    right = {"given": 0, "tokens": ["a", "b"], "probabilities": [0.5, 0.5], "alternatives": [[], []]}
    right |= {"attention": [[[[1.0, 0.0], [0.5, 0.5]]]]}
    path = tmp_path / "inspection.json"
    path.write_text(json.dumps(right))
    assert read_result(path, Inspection).tokens == ["a", "b"]
    path.write_text(json.dumps(right | change))
    with pytest.raises(UserError, match=message):
        read_result(path, Inspection)
