"""Tests of slm.train.state."""

import pytest
import torch
from torch import nn

from slm.train.state import Muon, orthogonalize

SHAPES = [(16, 16), (16, 16), (64, 16), (16, 64), (64, 16)]


def random_parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def test_weights_match_torch_muon():
    ours, torchs = random_parameters(), random_parameters()
    settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9}
    optimizers = Muon(ours, **settings), torch.optim.Muon(torchs, **settings, adjust_lr_fn="match_rms_adamw")
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for a, b in zip(ours, torchs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours, torchs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_parameters_without_gradient_are_unchanged():
    parameters = random_parameters()
    before = [parameter.detach().clone() for parameter in parameters]
    parameters[1].grad = torch.ones(SHAPES[1])
    Muon(parameters, lr=0.1, weight_decay=0.1, momentum=0.9).step()
    changed = [not torch.equal(a, b) for a, b in zip(parameters, before, strict=True)]
    assert changed == [False, True, False, False, False]


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 32, 8), (2, 8, 32)])
def test_singular_values_are_close_to_one(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrices).float())
    assert values.min() > 0.3
    assert values.max() < 1.4
