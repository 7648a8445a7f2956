"""Muon (Jordan et al. 2024), with one batched Newton-Schulz iteration per matrix shape."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# Coefficients of Jordan's quintic iteration, which maximize its slope at 0.
A, B, C = 3.4445, -4.7750, 2.0315
ITERATIONS = 5


class Muon(Optimizer):
    """torch.optim.Muon with Nesterov momentum and adjust_lr_fn="match_rms_adamw", on stacked matrices.

    A step takes a few large kernels instead of hundreds of small ones, and gives the same weights.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float, momentum: float):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                buffers = [self._momentum_buffer(parameter) for parameter in parameters]
                torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
                # Nesterov: look one momentum step ahead.
                torch._foreach_lerp_(gradients, buffers, group["momentum"])
                update = orthogonalize(torch.stack(gradients))
                # Updates get the size of AdamW's (Liu et al. 2025).
                lr = group["lr"] * 0.2 * max(shape) ** 0.5
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, list(update.unbind()), alpha=-lr)

    def _momentum_buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return matrices (N, R, C) with the same singular vectors and singular values close to 1."""
    # The iteration tolerates rounding.
    x = matrices.bfloat16()
    is_tall = x.size(-2) > x.size(-1)
    if is_tall:
        x = x.mT
    # The iteration needs singular values of at most 1.
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    return (x.mT if is_tall else x).to(matrices.dtype)
