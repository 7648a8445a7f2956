"""AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019)."""

import torch
from torch import nn

from slm.training.params import TrainParams


def build_optimizer(model: nn.Module, params: TrainParams) -> torch.optim.AdamW:
    """AdamW that decays the matrices (of linear layers and embeddings) but neither biases nor layer norms."""
    parameters = list(model.parameters())
    matrices = [p for p in parameters if p.dim() >= 2]
    vectors = [p for p in parameters if p.dim() < 2]
    assert len({id(p) for p in matrices + vectors}) == len(matrices) + len(vectors) == len(parameters)
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": params.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=params.learning_rate,
        betas=(params.beta1, params.beta2),
        fused=True,
    )
