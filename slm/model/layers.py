"""Building blocks of the models: causal attention with a key-value cache, MLPs, norms, rotary positions.

Shapes: B sequences, T new tokens, S key positions, C = n_embd, H heads, D = head_dim, L layers.
"""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from slm.model.params import ModelParams

NORM_EPS = 1e-6
# The period of the slowest rotation is 2π times as many tokens.
ROTARY_BASE = 10_000.0
HAS_MKL_AND_ONEDNN = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()


class KVCache:
    """Keys and values of the tokens that a batch of sequences has processed.

    Sequences of different lengths are padded on the left; attention masks the padding and everything further
    back than the window (block_size). Sequences can join and leave between steps. `padding` (B,) is the
    number of columns before each sequence's first token.
    """

    def __init__(self, params: ModelParams, padding: Tensor, dtype: torch.dtype):
        self.window = params.block_size
        # Columns so far, and how many of the first were dropped because they left every window.
        self.length = 0
        self._n_dropped = 0
        self._set_padding(padding)
        shape = (params.n_layer, 2, len(padding), params.kv_heads, 0, params.head_dim)
        self._buffer = torch.empty(shape, dtype=dtype, device=padding.device)  # (L, 2, B, H, S, D)

    def _set_padding(self, padding: Tensor) -> None:
        self.padding = padding
        self.max_padding = int(padding.max())

    def select(self, indices: Tensor) -> None:
        """Keep the sequences at these indices, in this order; an index may occur several times."""
        padding = self.padding[indices]
        # Columns that are padding in every remaining sequence are dropped.
        n_unused = int(padding.min())
        first = max(0, n_unused - self._n_dropped)
        self._buffer = self._buffer[:, :, indices, :, first:]
        self._n_dropped = max(0, self._n_dropped - n_unused)
        self.length -= n_unused
        self._set_padding(padding - n_unused)

    def append(self, other: "KVCache") -> None:
        """Add the sequences of another cache after this one's, with their newest tokens aligned."""
        buffers = [cache._buffer[..., : cache.length - cache._n_dropped, :] for cache in (self, other)]
        width = max(buffer.size(4) for buffer in buffers)
        padded = [F.pad(buffer, (0, 0, width - buffer.size(4), 0)) for buffer in buffers]
        self._buffer = torch.cat(padded, dim=2)
        length = max(self.length, other.length)
        self._set_padding(torch.cat([cache.padding + length - cache.length for cache in (self, other)]))
        self.length, self._n_dropped = length, length - width

    def positions(self, n_new: int) -> Tensor:
        """Return the positions (B, T) of the next tokens, each counted within its sequence; padding is 0."""
        columns = torch.arange(self.length, self.length + n_new, device=self.padding.device)
        return (columns - self.padding[:, None]).clamp(min=0)

    def reserve(self, n_new: int) -> None:
        """Make room for T new tokens. Call it before `update` in each layer, and `advance` after the last."""
        n_used = self.length - self._n_dropped
        if n_used + n_new > self._buffer.size(4):
            n_kept = min(n_used, self.window - 1)
            old = self._buffer
            # Twice the size needed, so that the buffer is rarely copied.
            shape = [*old.shape[:4], 2 * (n_kept + n_new), old.size(5)]
            self._buffer = old.new_empty(shape)
            self._buffer[..., :n_kept, :] = old[..., n_used - n_kept : n_used, :]
            self._n_dropped = self.length - n_kept

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (B, H, T, D) and return those within the window: (B, H, S, D) each."""
        start = self.length - self._n_dropped
        stop, first = start + keys.size(2), max(0, start - self.window + 1)
        all_keys, all_values = self._buffer[layer]
        all_keys[:, :, start:stop] = keys
        all_values[:, :, start:stop] = values
        return all_keys[:, :, first:stop], all_values[:, :, first:stop]

    def advance(self, n_new: int) -> None:
        """Count T new tokens as processed."""
        self.length += n_new


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Return scaled dot-product attention of queries (B, H, T, D), heads concatenated: (B, T, H · D).

    Keys and values are (B, H, S, D), or have a divisor of H as their number of heads (grouped-query
    attention). `mask` comes from attention_mask.
    """
    attention = partial(
        F.scaled_dot_product_attention,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None and q.size(2) > 1,
        enable_gqa=k.size(1) < q.size(1),
    )
    if dropout and q.device.type == "cpu" and torch.is_grad_enabled():
        # The CPU has no fused kernel with dropout. Instead of keeping tensors of (B, H, T, S) per layer, the
        # backward pass computes them again.
        y = checkpoint(attention, q, k, v, use_reentrant=False)
    else:
        y = attention(q, k, v)  # (B, H, T, D)
    return y.transpose(1, 2).flatten(-2)


def attention_mask(n_new: int, window: int, device: torch.device, cache: KVCache | None) -> Tensor | None:
    """Return which key positions each of T new tokens attends to: a bool mask (T, S) or (B, 1, T, S).

    None means plain causal attention, for which PyTorch has faster kernels.
    """
    length = cache.length if cache else 0
    first = max(0, length - window + 1)
    is_padded = cache is not None and cache.max_padding > first
    if not is_padded and (n_new == 1 or (length == 0 and n_new <= window)):
        return None
    tokens = torch.arange(length, length + n_new, device=device)[:, None]  # (T, 1)
    columns = torch.arange(first, length + n_new, device=device)  # (S,)
    mask = (columns <= tokens) & (columns > tokens - window)  # (T, S)
    if cache is None or not is_padded:
        return mask
    is_token = columns >= cache.padding[:, None, None, None]  # (B, 1, 1, S)
    # Padding attends to itself: a softmax over no positions would be NaN.
    return mask & is_token | (columns == tokens)


class MLP(nn.Module):
    """Two linear layers, the hidden one four times as wide, with a GELU or a squared ReLU between them."""

    def __init__(self, params: ModelParams, bias: bool):
        super().__init__()
        self.uses_relu2 = params.architecture == "rope" and params.activation == "relu2"
        self.up = Linear(params.n_embd, 4 * params.n_embd, bias=bias)
        self.down = Linear(4 * params.n_embd, params.n_embd, bias=bias)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)  # (B, T, 4C)
        x = F.relu(x).square() if self.uses_relu2 else F.gelu(x, approximate="tanh")
        return self.dropout(self.down(x))  # (B, T, C)


class SwiGLU(nn.Module):
    """Three linear layers, one of which gates another; as many weights as MLP."""

    def __init__(self, params: ModelParams):
        super().__init__()
        # 8/3 of C, rounded up to a multiple of 8.
        width = math.ceil(params.n_embd / 3) * 8
        self.gate = Linear(params.n_embd, width, bias=False)
        self.up = Linear(params.n_embd, width, bias=False)
        self.down = Linear(width, params.n_embd, bias=False)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.down(F.silu(self.gate(x)) * self.up(x)))  # (B, T, C)


def norm(x: Tensor) -> Tensor:
    """Return RMSNorm of the last dimension, without a gain."""
    return F.rms_norm(x, (x.size(-1),), eps=NORM_EPS)


def rotary_angles(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Return the cosine and sine (…, T, D / 2) of the rotary angles at positions (…, T)."""
    if torch.compiler.is_compiling():
        return _opaque_rotary_angles(positions, head_dim)
    exponents = torch.arange(0, head_dim, 2, device=positions.device) / head_dim
    angles = positions[..., None].float() * ROTARY_BASE**-exponents
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair of channels (i, i + D / 2) of x (…, T, D) by its angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)


class Linear(nn.Linear):
    """nn.Linear that computes its product with `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return F.linear of x (…, I), weight (O, I) and bias (O,), by oneDNN where torch would use MKL: (…, O).

    In float32 on an x86 CPU torch multiplies with Intel's MKL, which is slow on AMD processors. There oneDNN,
    which torch uses for all other types, is up to four times as fast (benchmarks/RESULTS.md).
    """
    uses_mkl = HAS_MKL_AND_ONEDNN and x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    if uses_mkl and not torch.is_autocast_enabled("cpu"):
        return _OneDNNLinear.apply(x, weight, bias)
    return F.linear(x, weight, bias)


class _OneDNNLinear(torch.autograd.Function):
    """Linear layer with oneDNN products in the forward and backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _matmul_t(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        inputs, grads = x.flatten(0, -2), grad.flatten(0, -2)  # (N, I), (N, O)
        # oneDNN copies a transposed first factor, so that is the smaller one.
        if inputs.size(1) < grads.size(1):
            weight_grad = _matmul_t(inputs.t(), grads.t()).t()
        else:
            weight_grad = _matmul_t(grads.t(), inputs.t())
        return _matmul_t(grad, weight.t()), weight_grad, grads.sum(0) if ctx.has_bias else None


def _matmul_t(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a (…, I) times the transposed b (O, I), by the op that torch.compile itself uses for it."""
    if torch.compiler.is_compiling():
        return _opaque_matmul_t(a, b, bias)
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


# torch.compile would constant-fold the operands of this op, so it sees an opaque one.
@torch.library.custom_op("slm::matmul_t", mutates_args=())
def _opaque_matmul_t(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")


@_opaque_matmul_t.register_fake
def _(a: Tensor, b: Tensor, bias: Tensor | None) -> Tensor:
    return a.new_empty((*a.shape[:-1], b.size(0)))


# torch.compile would compute the angles again in each kernel that rotates.
@torch.library.custom_op("slm::rotary_angles", mutates_args=())
def _opaque_rotary_angles(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    return rotary_angles(positions, head_dim)


@_opaque_rotary_angles.register_fake
def _(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    shape = (*positions.shape, head_dim // 2)
    return positions.new_empty(shape, dtype=torch.float32), positions.new_empty(shape, dtype=torch.float32)
