"""Token losses, perplexity and bits per byte, compared with sums by hand."""

import math

import numpy as np
import pytest
import torch

from slm.core.errors import UserError
from slm.eval.perplexity import perplexity, summarize_losses, token_losses, windows
from slm.model.gpt import new_gpt
from tests.tiny import shaken

VOCAB, BLOCK, END = 11, 8, 10


@pytest.fixture
def model():
    return shaken(VOCAB)


def text(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(VOCAB, size=n).astype(np.uint16)


@torch.inference_mode()
def losses_by_hand(model, tokens, stride, context):
    """Return the loss of each token, from the window that predicts it, run up to that token."""
    precise = new_gpt(model.params, VOCAB).double().eval()
    precise.load_state_dict(model.state_dict())
    inputs = [END, *tokens.tolist()]
    losses = []
    for i, token in enumerate(tokens.tolist()):
        end = min(context, len(tokens))
        while end <= i:
            end = min(end + stride, len(tokens))
        start = max(0, end - context)
        logits = precise(torch.tensor([inputs[start : i + 1]]))[0, -1]
        losses.append(-logits.log_softmax(-1)[token].item())
    return losses


@pytest.mark.parametrize("n", [1, 5, 8, 9, 30, 33])
@pytest.mark.parametrize(("stride", "context"), [(1, 8), (3, 8), (4, 8), (8, 8), (2, 3), (1, 1)])
def test_token_losses_match_one_token_at_a_time(model, n, stride, context):
    tokens = text(n)
    for batch_size in (1, 4):
        losses = token_losses(model, tokens, END, stride, batch_size, context)
        assert losses.dtype == np.float32
        np.testing.assert_allclose(
            losses, losses_by_hand(model, tokens, stride, context), rtol=1e-4, atol=1e-5
        )


def test_token_losses_default_stride_is_a_quarter_block(model):
    tokens = text(40)
    losses = token_losses(model, tokens, END, stride=None, batch_size=4)
    assert np.array_equal(losses, token_losses(model, tokens, END, stride=2, batch_size=4, context=BLOCK))
    assert not np.array_equal(losses, token_losses(model, tokens, END, stride=8, batch_size=4))


def test_token_losses_accept_memory_maps(model, tmp_path):
    tokens = text(40)
    tokens.tofile(tmp_path / "validation.bin")
    mapped = np.memmap(tmp_path / "validation.bin", dtype=np.uint16, mode="r")
    expected, losses = (token_losses(model, t, END, 3, 4) for t in (tokens, mapped))
    assert np.array_equal(expected, losses)


def test_uniform_model_loses_ln_v_per_token(model):
    with torch.no_grad():
        model.token_embedding.weight.zero_()
    losses = token_losses(model, text(30), END, 3, 4)
    assert (losses == np.float32(math.log(VOCAB))).all()


def test_windows_pair_each_token_with_the_one_before():
    inputs, targets = windows(
        np.array([5, 6, 7, 8], np.uint16), np.array([0, 1]), 3, END, torch.device("cpu")
    )
    assert inputs.tolist() == [[END, 5, 6], [5, 6, 7]]
    assert targets.tolist() == [[5, 6, 7], [6, 7, 8]]


@pytest.mark.parametrize(("stride", "context"), [(9, None), (4, 3)])
def test_stride_beyond_the_context_is_reported(model, stride, context):
    allowed = context or BLOCK
    with pytest.raises(
        UserError, match=f"^evaluate.stride: must be at most the context of {allowed} tokens, got {stride}$"
    ):
        token_losses(model, text(30), END, stride, 4, context)


def test_summarize_losses_follows_the_definitions():
    losses = np.array([1.0, 2.0, 4.5], dtype=np.float32)
    summary = summarize_losses(losses, n_bytes=6)
    assert summary == {
        "val_loss": 2.5,
        "perplexity": pytest.approx(math.exp(2.5)),
        "bits_per_byte": pytest.approx(7.5 * math.log2(math.e) / 6),
    }


def test_summarize_losses_sums_in_float64():
    losses = np.full(3_000_001, 0.1, dtype=np.float32)
    assert summarize_losses(losses, n_bytes=1)["val_loss"] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_bits_per_byte_include_losses_of_end_of_text(model):
    # Each token but end-of-text stands for two bytes.
    first, second = [1, 2, 3], [4, 5]
    tokens = np.array([*first, END, *second, END], dtype=np.uint16)
    losses = token_losses(model, tokens, END, 1, 4)
    nats = math.fsum(losses_by_hand(model, tokens, stride=1, context=BLOCK))
    summary = summarize_losses(losses, n_bytes=2 * (len(first) + len(second)))
    assert summary["bits_per_byte"] == pytest.approx(nats / math.log(2) / 10, rel=1e-6)
    assert summary["val_loss"] == pytest.approx(nats / 7, rel=1e-6)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 710.0])
def test_loss_without_finite_perplexity_is_reported(loss):
    with pytest.raises(UserError, match=r"^the model's mean loss is .* nats per word; train it again$"):
        perplexity(loss, "word")
