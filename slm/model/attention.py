"""Attention as both models have it: which tokens are looked at, and the mean of their values.

Shapes: B sequences, H heads, T new tokens, S columns in sight, D channels a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from slm.model.cache import Cache


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """For each query (B, H, T, D) the mean of the values, weighted by how well their keys fit: (B, T, H · D).

    Several heads may share keys and values: (B, H or a divisor of it, S, D). `mask` is from attention_mask.
    """
    y = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None and q.size(2) > 1,
        enable_gqa=k.size(1) < q.size(1),
    )  # (B, H, T, D)
    return y.transpose(1, 2).flatten(-2)


def attention_mask(n_new: int, window: int, device: torch.device, cache: Cache | None) -> Tensor | None:
    """Which columns in sight each of T new tokens looks at: (T, S) or (B, 1, T, S) of bool.

    None if it is plain: each token looks at all those before it and itself.
    """
    seen = cache.seen if cache else 0
    first = max(0, seen - window + 1)
    is_padded = cache is not None and cache.most_padding > first
    if not is_padded and (n_new == 1 or (seen == 0 and n_new <= window)):
        return None
    tokens = torch.arange(seen, seen + n_new, device=device)[:, None]  # (T, 1)
    columns = torch.arange(first, seen + n_new, device=device)  # (S,)
    mask = (columns <= tokens) & (columns > tokens - window)  # (T, S)
    if cache is None or not is_padded:
        return mask
    inside = columns >= cache.padding[:, None, None, None]  # (B, 1, 1, S)
    return mask & inside | (columns == tokens)  # padding looks at itself: a mean of nothing is NaN
