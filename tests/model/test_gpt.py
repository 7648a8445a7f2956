"""Tests of the gpt2 architecture against a float64 reference."""

import math

import pytest
import torch

from slm.model import loss as loss_module
from slm.model.gpt import GPT, count_params, new_gpt
from slm.model.loss import IGNORE_INDEX, cross_entropy
from slm.model.params import ModelConfig
from tests.tiny import model_params, shaken

VOCAB = 11


def reference_logits(model: GPT, ids: list[int]) -> torch.Tensor:
    """GPT-2 for one sequence, position by position and head by head."""
    w = {name: tensor.double() for name, tensor in model.state_dict().items()}
    size = model.params.n_embd // model.params.n_head

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    def norm(x, name):
        mean = x.mean()
        deviation = ((x - mean).square().mean() + 1e-5).sqrt()
        return (x - mean) / deviation * w[f"{name}.weight"] + w.get(f"{name}.bias", 0.0)

    def gelu(x):
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    xs = [w["token_embedding.weight"][i] + w["position_embedding.weight"][t] for t, i in enumerate(ids)]
    for layer in range(model.params.n_layer):
        block = f"blocks.{layer}"
        qkv = [linear(norm(x, f"{block}.attention_norm"), f"{block}.attention.qkv") for x in xs]
        queries, keys, values = zip(*(part.chunk(3) for part in qkv), strict=True)
        for t in range(len(xs)):
            heads = []
            for head in range(model.params.n_head):
                own = slice(head * size, (head + 1) * size)
                scores = torch.stack([queries[t][own] @ keys[s][own] / math.sqrt(size) for s in range(t + 1)])
                shares = scores.exp() / scores.exp().sum()
                heads.append(sum(shares[s] * values[s][own] for s in range(t + 1)))
            xs[t] = xs[t] + linear(torch.cat(heads), f"{block}.attention.out")
        for t, x in enumerate(xs):
            hidden = gelu(linear(norm(x, f"{block}.mlp_norm"), f"{block}.mlp.up"))
            xs[t] = x + linear(hidden, f"{block}.mlp.down")
    return torch.stack([norm(x, "final_norm") @ w["token_embedding.weight"].T for x in xs])


@pytest.mark.parametrize("bias", [True, False])
def test_gpt2_logits_match_reference(bias):
    model = shaken(VOCAB, bias=bias).double()
    ids = [[3, 1, 4, 1, 5, 9, 2, 6], [0, 10, 7, 7, 7, 2, 8, 1]]
    expected = torch.stack([reference_logits(model, row) for row in ids])
    torch.testing.assert_close(model(torch.tensor(ids)), expected, rtol=1e-9, atol=1e-9)


def test_gpt2_attention_is_causal():
    model = shaken(VOCAB)
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    for position in range(1, 8):
        changed = ids.clone()
        changed[0, position] = 0
        before, after = model(ids), model(changed)
        assert torch.equal(before[:, :position], after[:, :position])
        assert not torch.allclose(before[:, position], after[:, position])


def test_last_returns_last_logits():
    model = shaken(VOCAB)
    ids = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    for last in (1, 3, 5):
        torch.testing.assert_close(model(ids, last=last), model(ids)[:, -last:])


def test_gpt2_refuses_more_than_block_size_tokens():
    with pytest.raises(ValueError, match="the context must be at most block_size = 8, got 9"):
        new_gpt(model_params(), VOCAB)(torch.zeros(1, 9, dtype=torch.int64))


def test_dropout_only_affects_training():
    model = shaken(VOCAB, dropout=0.5).train()
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


def test_new_gpt2_predicts_nearly_uniformly():
    torch.manual_seed(0)
    model = new_gpt(model_params(n_embd=48), vocab_size=1000)
    ids = torch.randint(1000, (16, 9))
    loss = cross_entropy(model(ids[:, :-1]), ids[:, 1:])
    assert loss.item() == pytest.approx(math.log(1000), abs=0.05)


def test_gpt2_initial_weights():
    torch.manual_seed(0)
    model = new_gpt(model_params(n_layer=8, n_head=4, n_embd=64), vocab_size=500)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            residual = name.endswith(("attention.out.weight", "mlp.down.weight"))
            std = 0.02 / math.sqrt(2 * 8) if residual else 0.02
            assert parameter.std().item() == pytest.approx(std, rel=0.1), name
            assert parameter.mean().item() == pytest.approx(0, abs=std / 5), name


@pytest.mark.parametrize("bias", [True, False])
def test_count_params_matches_formula(bias):
    c, layers, block = 12, 2, 8
    biases = (3 * c + c + 4 * c + c + 2 * c) * layers + c if bias else 0
    expected = VOCAB * c + block * c + layers * (12 * c * c + 2 * c) + c + biases
    assert count_params(new_gpt(model_params(bias=bias), VOCAB)) == expected


def test_gpt2_head_is_tied():
    model = new_gpt(model_params(), VOCAB)
    ids = torch.tensor([[1, 2]])
    before = model(ids)
    with torch.no_grad():
        model.token_embedding.weight[7] *= 2  # not among the inputs
    torch.testing.assert_close(model(ids)[..., 7], 2 * before[..., 7])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunked_loss_and_gradients_match_plain_ones(monkeypatch, dtype):
    model = shaken(VOCAB, dropout=0.0)
    ids, targets = torch.randint(VOCAB, (2, 3, 8), generator=torch.Generator().manual_seed(0))
    targets[0, :3] = IGNORE_INDEX

    def loss_and_gradients() -> list[torch.Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = model.loss(ids, targets) / 21
        loss.backward()
        return [loss, *(parameter.grad for parameter in model.parameters())]

    expected = loss_and_gradients()
    # 5 of the 24 positions at a time.
    monkeypatch.setattr(loss_module, "MAX_LOGITS", 5 * VOCAB)
    tolerance = 1e-6 if dtype == torch.float32 else 2e-2
    for a, b in zip(loss_and_gradients(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_chunked_loss_per_token_matches_plain_one(monkeypatch):
    model = shaken(VOCAB)
    ids, targets = torch.randint(VOCAB, (2, 3, 8), generator=torch.Generator().manual_seed(0))
    targets = targets[:, -4:]
    with torch.no_grad():
        expected = cross_entropy(model(ids, last=4), targets, "none").view_as(targets)
        monkeypatch.setattr(loss_module, "MAX_LOGITS", 5 * VOCAB)
        torch.testing.assert_close(model.loss(ids, targets, "none"), expected)
        torch.testing.assert_close(model.loss(ids, targets), expected.sum())


def test_cross_entropy_skips_ignore_index():
    logits = torch.randn(2, 3, VOCAB, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1, IGNORE_INDEX, 3], [IGNORE_INDEX, 5, IGNORE_INDEX]])
    logs = logits.log_softmax(-1)
    expected = -(logs[0, 0, 1] + logs[0, 2, 3] + logs[1, 1, 5])
    torch.testing.assert_close(cross_entropy(logits, targets, reduction="sum"), expected)
    torch.testing.assert_close(cross_entropy(logits, targets), expected / 3)


@pytest.mark.parametrize("shape", [
    {"architecture": "gpt2"},
    {"architecture": "rope", "tie_embeddings": False},
    {"architecture": "rope", "tie_embeddings": True, "n_head": 3, "n_kv_head": 1},
])  # fmt: skip
def test_flops_per_token_matches_count_by_hand(shape):
    params, vocab_size = model_params(**shape | {"n_embd": 24}), 50
    model = new_gpt(params, vocab_size)
    weights = {id(p): p for name, p in model.named_parameters() if "embedding" not in name}
    weights[id(model.head_weight)] = model.head_weight
    products = sum(p.numel() for p in weights.values())
    config = ModelConfig(architecture="gpt", vocab_size=vocab_size, model=params)
    attention = 12 * params.n_layer * params.n_embd * params.block_size
    assert config.flops_per_token(count_params(model)) == 6 * products + attention
