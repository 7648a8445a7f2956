"""Cross-entropy of the next token, in chunks if the logits are large."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from slm.model.layers import linear

# Targets with this value do not count in the loss.
IGNORE_INDEX = -1
# Logits computed at a time for the loss: at most 128 MiB in float32.
MAX_LOGITS = 1 << 25


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Return the negative log-likelihood in nats of `targets` (…) under `logits` (…, V).

    Targets equal to IGNORE_INDEX do not count. `reduction` is "mean", "sum" or "none", which gives (N,).
    """
    return F.cross_entropy(
        logits.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORE_INDEX, reduction=reduction
    )


def linear_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, reduction: str) -> Tensor:
    """Return the cross-entropy in nats of the logits x @ weight.T, computing MAX_LOGITS of them at a time.

    x is (N, C), `weight` (V, C) and `targets` (N,). `reduction` is "sum" or "none", which is not
    differentiable if there is more than one chunk. Targets equal to IGNORE_INDEX have loss 0.
    """
    n_rows = max(1, MAX_LOGITS // len(weight))
    if len(x) <= n_rows:
        return cross_entropy(linear(x, weight), targets, reduction)
    if torch.is_grad_enabled() and reduction == "sum":
        return _chunked_cross_entropy(x, weight, targets, n_rows)
    chunks = zip(x.split(n_rows), targets.split(n_rows), strict=True)
    losses = [cross_entropy(linear(x_chunk, weight), y, reduction) for x_chunk, y in chunks]
    return torch.stack(losses).sum() if reduction == "sum" else torch.cat(losses)


# On a GPU, torch 2.11 compiles this function to one whose gradient is zero (benchmarks/RESULTS.md).
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _chunked_cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, n_rows: int) -> Tensor:
    total: Tensor = _ChunkedCrossEntropy.apply(x, weight, targets, n_rows)
    return total


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropy, whose forward pass also computes the gradients, chunk by chunk.

    Thus neither the logits nor their gradient exist for the whole batch, and no logits are computed twice.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, n_rows: int) -> Tensor:
        device_type = x.device.type
        is_autocast = torch.is_autocast_enabled(device_type)
        dtype = torch.get_autocast_dtype(device_type) if is_autocast else x.dtype
        low_weight = weight.to(dtype)
        x_grad, weight_grad = torch.empty_like(x), torch.zeros_like(weight)
        total = x.new_zeros((), dtype=torch.float32)
        with torch.autocast(device_type, enabled=False):
            for start in range(0, len(x), n_rows):
                rows = slice(start, start + n_rows)
                x_chunk, is_counted = x[rows].to(dtype), (targets[rows] != IGNORE_INDEX)[:, None]
                # An index that exists; its row does not count.
                index = targets[rows].clamp(min=0)[:, None]
                logits = linear(x_chunk, low_weight).float()  # (n_rows, V)
                log_probs = logits.sub_(logits.logsumexp(-1, keepdim=True))
                total -= (log_probs.gather(1, index) * is_counted).sum()
                # The gradient of the logits: probabilities, minus 1 for the target.
                grad = log_probs.exp_()
                grad.scatter_add_(1, index, grad.new_full(index.shape, -1.0)).mul_(is_counted)
                grad = grad.to(dtype)
                x_grad[rows] = linear(grad, low_weight.t())
                weight_grad += linear(grad.t(), x_chunk.t())
        ctx.save_for_backward(x_grad, weight_grad)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_grad, weight_grad = ctx.saved_tensors
        return x_grad * grad, weight_grad * grad, None, None
