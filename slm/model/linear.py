"""Linear layers whose products are computed by oneDNN where torch would take MKL.

In float32 on an x86 CPU torch multiplies with Intel's MKL, which is slow on processors of AMD: there oneDNN,
which torch itself uses for all other types, is up to four times as fast (benchmarks/RESULTS.md).

Shapes: N rows, I channels in, O channels out.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HAS_BOTH = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()


class Linear(nn.Linear):
    """nn.Linear, by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (…, I) times the transposed weight (O, I), plus the bias (O,): (…, O)."""
    is_mkls = HAS_BOTH and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    if is_mkls and not torch.is_autocast_enabled("cpu"):
        return _OneDNN.apply(x, weight, bias)
    return F.linear(x, weight, bias)


class _OneDNN(torch.autograd.Function):
    """`linear` and its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        ins, outs = x.flatten(0, -2), grad.flatten(0, -2)  # (N, I), (N, O)
        if ins.size(1) < outs.size(1):  # a transposed first factor is copied: let it be the smaller one
            weight_grad = _product(ins.t(), outs.t()).t()
        else:
            weight_grad = _product(outs.t(), ins.t())
        return _product(grad, weight.t()), weight_grad, outs.sum(0) if ctx.has_bias else None


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a (…, I) times the transposed b (O, I), by the operation that torch's own compiler uses for it."""
    if torch.compiler.is_compiling():
        return _opaque_product(a, b, bias)
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


@torch.library.custom_op("slm::product", mutates_args=())
def _opaque_product(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    """`_product`, for the compiler to call as it stands: what it makes of that operation is for constants."""
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


@_opaque_product.register_fake
def _(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return a.new_empty((*a.shape[:-1], b.size(0)))
