"""Tests of the rope architecture against a float64 reference."""

import math

import pytest
import torch

from slm.model.gpt import RopeGPT, count_params, new_gpt
from slm.model.layers import norm, rotary_angles, rotate
from slm.model.loss import cross_entropy
from tests.tiny import model_params, shaken

VOCAB = 11
ROPE = {"architecture": "rope", "n_head": 4, "n_kv_head": 2, "n_embd": 16}
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [0, 10, 7, 7, 7, 2, 8, 1]])


def rope_params(**changes):
    return model_params(**{**ROPE, **changes})


def rope_gpt(**changes) -> RopeGPT:
    return shaken(VOCAB, by=0.5, **{**ROPE, **changes}).double()


def reference_logits(model: RopeGPT, ids: list[int]) -> torch.Tensor:
    """For one sequence, position by position and head by head; a token sees the block_size last ones."""
    params, w = model.params, dict(model.state_dict())
    size, group = params.head_dim, params.n_head // params.kv_heads

    def rms(x):
        return x / (x.square().mean() + 1e-6).sqrt()

    def turned(x, position):
        out = torch.empty_like(x)
        for i in range(size // 2):
            angle = position / 10_000 ** (2 * i / size)
            a, b = x[i], x[i + size // 2]
            out[i] = a * math.cos(angle) + b * math.sin(angle)
            out[i + size // 2] = b * math.cos(angle) - a * math.sin(angle)
        return out

    def mlp(x, block):
        if params.activation == "swiglu":
            gate = w[f"{block}.gate.weight"] @ x
            hidden = gate / (1 + (-gate).exp()) * (w[f"{block}.up.weight"] @ x)
        else:
            hidden = (w[f"{block}.up.weight"] @ x).clamp(min=0) ** 2
        return w[f"{block}.down.weight"] @ hidden

    xs = [rms(w["token_embedding.weight"][i]) for i in ids]
    for layer in range(params.n_layer):
        part = f"blocks.{layer}.attention"
        q, k, v = (
            [(w[f"{part}.{name}.weight"] @ rms(x)).split(size) for x in xs]
            for name in ("query", "key", "value")
        )
        added = []
        for t in range(len(xs)):
            heads = []
            seen = range(max(0, t - params.block_size + 1), t + 1)
            for head in range(params.n_head):
                query = rms(turned(q[t][head], t))
                keys = [rms(turned(k[s][head // group], s)) for s in seen]
                scores = torch.stack([query @ key / math.sqrt(size) for key in keys])
                shares = scores.exp() / scores.exp().sum()
                heads.append(sum(share * v[s][head // group] for share, s in zip(shares, seen, strict=True)))
            added.append(w[f"{part}.out.weight"] @ torch.cat(heads))
        xs = [x + more for x, more in zip(xs, added, strict=True)]
        xs = [x + mlp(rms(x), f"blocks.{layer}.mlp") for x in xs]
    return torch.stack([model.head_weight.detach() @ rms(x) for x in xs])


@pytest.mark.parametrize(
    "changes", [{}, {"activation": "swiglu", "n_kv_head": 4}, {"tie_embeddings": True, "n_kv_head": 1}]
)
def test_rope_logits_match_reference(changes):
    model = rope_gpt(**changes)
    ids = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4]  # block_size is 8
    torch.testing.assert_close(model(torch.tensor([ids]))[0], reference_logits(model, ids), rtol=0, atol=1e-5)


def test_rotary_scores_depend_on_distance_only():
    x, y = torch.randn(2, 1, 6, dtype=torch.float64)
    at = {t: rotary_angles(torch.tensor([t]), 6) for t in (0, 3, 50, 53)}
    near = (rotate(x, *at[3]) * rotate(y, *at[0])).sum()
    far = (rotate(x, *at[53]) * rotate(y, *at[50])).sum()
    assert near.item() == pytest.approx(far.item(), abs=1e-5)
    assert near.item() != pytest.approx((x * y).sum().item(), abs=1e-3)


def test_rope_attention_is_causal_and_windowed():
    model = rope_gpt()
    ids = torch.arange(20)[None] % VOCAB
    changed = ids.clone()
    changed[0, 2] = 9
    differs = (model(ids) != model(changed)).any(-1)[0]
    assert not differs[:2].any()
    assert differs[2 : 2 + 8].all()
    assert not differs[2 + 2 * 7 + 1 :].any()  # two layers, each of which looks 7 tokens back


@pytest.mark.parametrize("changes", [{}, {"activation": "swiglu"}, {"tie_embeddings": True}])
def test_new_rope_predicts_uniformly(changes):
    torch.manual_seed(0)
    model = new_gpt(rope_params(n_embd=64, **changes), 1000)
    ids = torch.randint(1000, (16, 9))
    if "tie_embeddings" not in changes:
        assert cross_entropy(model(ids[:, :-1]), ids[:, 1:]).item() == pytest.approx(math.log(1000), abs=1e-5)
    x = norm(model.token_embedding(ids))
    for block in model.blocks:
        assert torch.equal(block(x, rotary_angles(torch.arange(9), 16), None, None), x)


def test_rope_initial_weights():
    torch.manual_seed(0)
    model = new_gpt(rope_params(n_embd=64), 500)
    for name, parameter in model.named_parameters():
        if name.endswith(("out.weight", "down.weight")) or name == "head.weight":
            assert not parameter.any(), name
        elif name == "token_embedding.weight":
            assert parameter.std().item() == pytest.approx(0.03, rel=0.05)
        else:
            assert parameter.std().item() == pytest.approx(1 / 8, rel=0.05), name
            assert parameter.abs().max().item() <= math.sqrt(3) / 8, name  # uniform


def test_rope_parameter_count():
    # embedding and head, and a layer's query, key, value, out, up, down
    layer = 16 * 16 + 2 * (16 * 8) + 16 * 16 + 2 * (16 * 64)
    assert count_params(new_gpt(rope_params(), VOCAB)) == 2 * VOCAB * 16 + 2 * layer
    assert count_params(new_gpt(rope_params(tie_embeddings=True), VOCAB)) == VOCAB * 16 + 2 * layer
    swiglu = 16 * 16 + 2 * (16 * 8) + 16 * 16 + 3 * (16 * 48)  # 8/3 of 16, up to a multiple of 8
    assert count_params(new_gpt(rope_params(activation="swiglu"), VOCAB)) == 2 * VOCAB * 16 + 2 * swiglu


def test_dropout_only_affects_training():
    model = rope_gpt(dropout=0.5).train()
    assert not torch.equal(model(IDS), model(IDS))
    model.eval()
    assert torch.equal(model(IDS), model(IDS))


def test_last_returns_last_logits():
    model = rope_gpt()
    for last in (1, 3, 8):
        torch.testing.assert_close(model(IDS, last=last), model(IDS)[:, -last:])


def test_autocast_bfloat16_is_close_to_float32():
    model = rope_gpt().float()
    with torch.autocast("cpu", torch.bfloat16):
        near = model(IDS)
    torch.testing.assert_close(near.float(), model(IDS), rtol=0.1, atol=0.3)
