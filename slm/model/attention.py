"""Keys and values of the tokens that a model has seen, so that each new token is worked on by itself.

Rows of different lengths are padded on their left, the longest not at all. What lies before a row's first
token is never looked at, nor is what lies further back than the window. Rows may come and go.

Shapes: L layers, B rows, H heads of keys and values, T new tokens, S columns in sight, D channels a head.
Attention as both models have it: which tokens are looked at, and the mean of their values.

Shapes: B sequences, H heads, T new tokens, S columns in sight, D channels a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from slm.model.params import ModelParams


class Cache:
    """Keys and values of B rows; `padding` (B,) says how many columns lie before each row's first token."""

    def __init__(self, params: ModelParams, padding: Tensor, dtype: torch.dtype):
        self.window = params.block_size
        self.seen = 0  # columns so far
        self._dropped = 0  # the first of them, which are out of everyone's sight
        self._pad(padding)
        shape = (params.n_layer, 2, len(padding), params.kv_heads, 0, params.head_size)
        self._kept = torch.empty(shape, dtype=dtype, device=padding.device)

    def _pad(self, padding: Tensor) -> None:
        self.padding = padding
        self.most_padding = int(padding.max())

    def rows(self, chosen: Tensor) -> None:
        """Go on with the rows of these indices, in this order; a row may be chosen several times."""
        padding = self.padding[chosen]
        n_unused = int(padding.min())  # columns in which none of these has a token
        first = max(0, n_unused - self._dropped)
        self._kept = self._kept[:, :, chosen, :, first:]
        self._dropped = max(0, self._dropped - n_unused)
        self.seen -= n_unused
        self._pad(padding - n_unused)

    def add(self, other: "Cache") -> None:
        """Go on with the rows of another cache, too, after the own ones; their newest tokens are in line."""
        kept = [cache._kept[..., : cache.seen - cache._dropped, :] for cache in (self, other)]
        width = max(part.size(4) for part in kept)
        self._kept = torch.cat([F.pad(part, (0, 0, width - part.size(4), 0)) for part in kept], dim=2)
        seen = max(self.seen, other.seen)
        self._pad(torch.cat([cache.padding + seen - cache.seen for cache in (self, other)]))
        self.seen, self._dropped = seen, seen - width

    def positions(self, n_new: int) -> Tensor:
        """How many tokens of its row lie before each of T new ones: (B, T); 0 where there is only padding."""
        columns = torch.arange(self.seen, self.seen + n_new, device=self.padding.device)
        return (columns - self.padding[:, None]).clamp(min=0)

    def make_room(self, n_new: int) -> None:
        """Prepare for T new tokens: before `extend` in each layer; `advance` follows it."""
        used = self.seen - self._dropped
        if used + n_new > self._kept.size(4):
            n_kept = min(used, self.window - 1)
            old = self._kept
            shape = [*old.shape[:4], 2 * (n_kept + n_new), old.size(5)]  # twice: copied seldom
            self._kept = old.new_empty(shape)
            self._kept[..., :n_kept, :] = old[..., used - n_kept : used, :]
            self._dropped = self.seen - n_kept

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep T new keys and values (B, H, T, D); give those of all columns in sight: (B, H, S, D) each."""
        start = self.seen - self._dropped
        stop, first = start + keys.size(2), max(0, start - self.window + 1)
        kept_keys, kept_values = self._kept[layer]
        kept_keys[:, :, start:stop] = keys
        kept_values[:, :, start:stop] = values
        return kept_keys[:, :, first:stop], kept_values[:, :, first:stop]

    def advance(self, n_new: int) -> None:
        """Count T new tokens as seen."""
        self.seen += n_new


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
