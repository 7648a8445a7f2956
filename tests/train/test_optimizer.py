"""Tests of AdamW and Muon against their formulas."""

import math

import pytest
import torch

from slm.model.gpt import GPT, new_gpt
from slm.train.state import build_optimizers
from tests.tiny import model_params, train_params

PARAMS = train_params(learning_rate=0.01, weight_decay=0.3, beta1=0.8, beta2=0.95)


def tiny() -> GPT:
    torch.manual_seed(0)
    return new_gpt(model_params(), vocab_size=10)


def test_only_matrices_have_weight_decay():
    model = tiny()
    decay = {
        id(p): group["weight_decay"]
        for group in build_optimizers(model, PARAMS)[0].param_groups
        for p in group["params"]
    }
    assert len(decay) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        is_vector = name.endswith("bias") or "norm" in name
        assert decay[id(parameter)] == (0.0 if is_vector else 0.3), name


def test_adamw_matches_formula():
    model = tiny()
    (optimizer,) = build_optimizers(model, PARAMS)
    expected = {name: p.detach().double() for name, p in model.named_parameters()}
    first = {name: torch.zeros_like(w) for name, w in expected.items()}
    second = {name: torch.zeros_like(w) for name, w in expected.items()}
    generator = torch.Generator().manual_seed(1)
    for t in (1, 2):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            grad = parameter.grad.double()
            first[name] = 0.8 * first[name] + 0.2 * grad
            second[name] = 0.95 * second[name] + 0.05 * grad**2
            decay = 0.0 if name.endswith("bias") or "norm" in name else 0.3
            expected[name] = expected[name] * (1 - 0.01 * decay)
            step = first[name] / (1 - 0.8**t) / ((second[name] / (1 - 0.95**t)).sqrt() + 1e-8)
            expected[name] = expected[name] - 0.01 * step
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.double(), expected[name], rtol=0, atol=1e-6)


MUON = train_params(optimizer="muon", learning_rate=0.01, weight_decay=0.3)


@pytest.mark.parametrize("architecture", ["gpt2", "rope"])
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_muon_updates_block_matrices_and_adamw_the_rest(architecture, tie_embeddings):
    model = new_gpt(model_params(architecture=architecture, tie_embeddings=tie_embeddings), vocab_size=10)
    adamw, muon = (
        {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        for optimizer in build_optimizers(model, MUON)
    )
    assert len(adamw) + len(muon) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        is_blocks_matrix = name.startswith("blocks.") and parameter.dim() == 2
        assert (id(parameter) in muon) == is_blocks_matrix != (id(parameter) in adamw), name
        decay = (muon if is_blocks_matrix else adamw)[id(parameter)]
        assert decay == (0.3 if parameter.dim() == 2 else 0.0), name


@pytest.mark.parametrize("part", ["attention.out", "mlp.up", "mlp.down"])
def test_muon_update_is_nearly_orthogonal(part):
    """Its singular values are those of an orthogonal matrix, roughly, at the size that AdamW's steps have."""
    torch.manual_seed(0)
    model = new_gpt(model_params(n_embd=24), vocab_size=10)
    weight = model.get_parameter(f"blocks.0.{part}.weight")
    before = weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    u, sizes, v = torch.linalg.svd(weight.grad, full_matrices=False)
    weight.grad = u * torch.logspace(0, -1, len(sizes)) @ v
    for optimizer in build_optimizers(model, MUON):
        optimizer.step()
    step = before * (1 - 0.01 * 0.3) - weight.detach()
    along = (u.T @ step @ v.T).diagonal() / (0.01 * 0.2 * math.sqrt(max(weight.shape)))
    assert 0.5 < along.min() < along.max() < 1.5  # the iteration stops before all are 1
    rms = step.square().mean().sqrt().item() / 0.01
    assert rms == pytest.approx(0.2, rel=0.25)  # AdamW's, by Liu et al. (2025)
