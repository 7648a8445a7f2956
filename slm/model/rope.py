"""A modern GPT: what has proved itself since GPT-2, most of it in speed-runs of training small models.

With `mlp: relu2` or `gelu` the architecture is NanoChat's (Karpathy 2025) without its soft cap, with `swiglu`
it is Qwen3's (Yang et al. 2025) with all gains at 1, so that its weights fit other implementations of these:

- rotary positions: keys and queries are turned by an angle that grows with the position (Su et al. 2021)
- RMS norm without gains (Zhang & Sennrich 2019), before each sublayer, after the embedding and at the end
- queries and keys are normed, too, so that attention cannot run hot (Henry et al. 2020)
- grouped queries: several heads of queries share one of keys and values (Ainslie et al. 2023)
- GELU (Hendrycks & Gimpel 2016), ReLU² (So et al. 2021) or SwiGLU (Shazeer 2020)
- no biases anywhere
- each sublayer's output starts at zero, so that a new model is a sum of embeddings (Zhang et al. 2019)
- a head of its own, zero at first, or the token embedding (Press & Wolf 2017)

A token looks back at most block_size tokens, at any length of text.

Shapes: B sequences, T tokens in each, C = n_embd channels, H = n_head heads of queries, K = n_kv_head
heads of keys and values, D = C / H, S columns to look at, V = vocab_size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slm.model.attention import Cache, attend, attention_mask
from slm.model.linear import Linear, linear
from slm.model.params import ModelParams

ROTARY_BASE = 10_000.0  # the slowest angle turns once in 2π times as many tokens
NORM_EPS = 1e-6
EMBEDDING_STD = 0.03  # which the norm after it evens out: it only sets how fast the embedding learns


class RopeGPT(nn.Module):
    """A language model: token ids in, logits of the next token out."""

    def __init__(self, params: ModelParams, vocab_size: int):
        super().__init__()
        self.params = params
        self.vocab_size = vocab_size
        self.token_embedding = nn.Embedding(vocab_size, params.n_embd)
        self.dropout = nn.Dropout(params.dropout)
        self.blocks = nn.ModuleList(Block(params, layer) for layer in range(params.n_layer))
        self.head = None if params.tie_embeddings else Linear(params.n_embd, vocab_size, bias=False)
        init_weights(self)

    @property
    def head_weight(self) -> Tensor:
        """(V, C)"""
        return self.token_embedding.weight if self.head is None else self.head.weight

    @property
    def device(self) -> torch.device:
        """Where the weights are, and the token ids must be."""
        return self.token_embedding.weight.device

    def forward(self, ids: Tensor, last: int | None = None, cache: Cache | None = None) -> Tensor:
        """Logits of the token after each position, or after the `last` positions only.

        `ids` is (B, T), the logits are (B, T, V) or (B, last, V). With a cache, the ids follow what it has
        seen, and it sees them, too.
        """
        n_tokens = ids.size(1)
        if cache is None:
            positions = torch.arange(n_tokens, device=ids.device)  # (T,)
        else:
            cache.make_room(n_tokens)
            positions = cache.positions(n_tokens)[:, None]  # (B, 1, T): each row counts its own
        mask = attention_mask(n_tokens, self.params.block_size, ids.device, cache)
        rotation = rotary_angles(positions, self.params.head_size)
        x = self.dropout(norm(self.token_embedding(ids)))  # (B, T, C)
        for block in self.blocks:
            x = block(x, rotation, mask, cache)
        if cache is not None:
            cache.advance(n_tokens)
        if last is not None:
            x = x[:, -last:]  # with a large vocabulary the head is most of the work
        return linear(norm(x), self.head_weight)  # (B, T, V)


class Block(nn.Module):
    """One layer: tokens exchange information, then each is worked on by itself."""

    def __init__(self, params: ModelParams, layer: int):
        super().__init__()
        self.attention = CausalSelfAttention(params, layer)
        self.mlp = SwiGLU(params) if params.activation == "swiglu" else MLP(params)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        x = x + self.attention(norm(x), rotation, mask, cache)
        return x + self.mlp(norm(x))


class CausalSelfAttention(nn.Module):
    """Each token takes a weighted mean of the values of itself and the tokens before it, once per head."""

    def __init__(self, params: ModelParams, layer: int):
        super().__init__()
        self.params, self.layer = params, layer
        kv_channels = params.kv_heads * params.head_size
        self.query = Linear(params.n_embd, params.n_embd, bias=False)
        self.key = Linear(params.n_embd, kv_channels, bias=False)
        self.value = Linear(params.n_embd, kv_channels, bias=False)
        self.out = Linear(params.n_embd, params.n_embd, bias=False)
        self.dropout = nn.Dropout(params.dropout)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, cache: Cache | None
    ) -> Tensor:
        q = self.query(x).unflatten(-1, (-1, self.params.head_size)).transpose(1, 2)  # (B, H, T, D)
        k = self.key(x).unflatten(-1, (-1, self.params.head_size)).transpose(1, 2)  # (B, K, T, D)
        v = self.value(x).unflatten(-1, (-1, self.params.head_size)).transpose(1, 2)  # (B, K, T, D)
        q = norm(rotate(q, *rotation)).type_as(v)  # norm is float32 within autocast
        k = norm(rotate(k, *rotation)).type_as(v)
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)  # (B, K, S, D)
        y = attend(q, k, v, mask, self.params.dropout if self.training else 0.0)
        return self.dropout(self.out(y))  # (B, T, C)


class MLP(nn.Module):
    """Two linear layers with a GELU or the square of a ReLU between them, four times as wide as the rest."""

    def __init__(self, params: ModelParams):
        super().__init__()
        self.is_gelu = params.activation == "gelu"
        self.up = Linear(params.n_embd, 4 * params.n_embd, bias=False)
        self.down = Linear(4 * params.n_embd, params.n_embd, bias=False)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)  # (B, T, 4C)
        x = F.gelu(x, approximate="tanh") if self.is_gelu else F.relu(x).square()
        return self.dropout(self.down(x))  # (B, T, C)


class SwiGLU(nn.Module):
    """Three linear layers, one of which opens and closes another's gates; as many weights as MLP."""

    def __init__(self, params: ModelParams):
        super().__init__()
        width = math.ceil(params.n_embd / 3) * 8  # 8/3 of C, a multiple of 8
        self.gate = Linear(params.n_embd, width, bias=False)
        self.up = Linear(params.n_embd, width, bias=False)
        self.down = Linear(width, params.n_embd, bias=False)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.down(F.silu(self.gate(x)) * self.up(x)))  # (B, T, C)


def norm(x: Tensor) -> Tensor:
    """Scale the last dimension to a mean square of 1."""
    return F.rms_norm(x, (x.size(-1),), eps=NORM_EPS)


def rotary_angles(positions: Tensor, head_size: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine (…, T, D / 2) of the angles by which tokens at positions (…, T) are turned."""
    pairs = torch.arange(0, head_size, 2, device=positions.device) / head_size
    angles = positions[..., None].float() * ROTARY_BASE**-pairs
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair of channels (i, i + D / 2) of x (…, T, D) by its angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1)


def init_weights(model: RopeGPT) -> None:
    """Set every parameter to its initial value.

    | parameters                              | start              |
    |-----------------------------------------|--------------------|
    | attention.out, mlp.down, head           | zero               |
    | query, key, value, up, gate             | uniform, std 1/√C  |
    | token_embedding                         | normal             |
    """
    bound = math.sqrt(3 / model.params.n_embd)
    for name, parameter in model.named_parameters():
        if name == "token_embedding.weight":
            nn.init.normal_(parameter, std=EMBEDDING_STD)
        elif name.endswith(("attention.out.weight", "mlp.down.weight")) or name == "head.weight":
            nn.init.zeros_(parameter)
        else:
            nn.init.uniform_(parameter, -bound, bound)
