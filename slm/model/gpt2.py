"""The classic GPT, which the tutorials build.

The architecture is GPT-2's (Radford et al. 2019), so that its weights fit other implementations of GPT-2:

- a stack of Transformer blocks, decoder only (Vaswani et al. 2017; Radford et al. 2018)
- learned embeddings of tokens and of positions, added up (Radford et al. 2018)
- causal multi-head self-attention (Vaswani et al. 2017), in a fused kernel (Dao et al. 2022)
- layer norm (Ba et al. 2016) before each sublayer, not after it, and once at the end (Radford et al. 2019)
- GELU in its tanh approximation (Hendrycks & Gimpel 2016)
- dropout of embeddings, attention weights and residuals (Srivastava et al. 2014)
- an output head that is the token embedding itself (Press & Wolf 2017)
- small initial weights, smaller still where a sublayer adds to the residual stream (Radford et al. 2019)

Shapes: B sequences, T tokens in each, C = n_embd channels, H = n_head heads, D = C / H, S columns to
look at, V = vocab_size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slm.model.attention import Cache, attend, attention_mask
from slm.model.linear import Linear, linear
from slm.model.params import ModelParams

INIT_STD = 0.02


class GPT2(nn.Module):
    """A language model: token ids in, logits of the next token out."""

    def __init__(self, params: ModelParams, vocab_size: int):
        super().__init__()
        self.params = params
        self.vocab_size = vocab_size
        self.token_embedding = nn.Embedding(vocab_size, params.n_embd)
        self.position_embedding = nn.Embedding(params.block_size, params.n_embd)
        self.dropout = nn.Dropout(params.dropout)
        self.blocks = nn.ModuleList(Block(params, layer) for layer in range(params.n_layer))
        self.final_norm = nn.LayerNorm(params.n_embd, bias=params.bias)
        init_weights(self)

    @property
    def device(self) -> torch.device:
        """Where the weights are, and the token ids must be."""
        return self.token_embedding.weight.device

    @property
    def head_weight(self) -> Tensor:
        """(V, C); the head is the embedding."""
        return self.token_embedding.weight

    def forward(self, ids: Tensor, last: int | None = None, cache: Cache | None = None) -> Tensor:
        """Logits of the token after each position, or after the `last` positions only.

        `ids` is (B, T), the logits are (B, T, V) or (B, last, V). With a cache, the ids follow what it has
        seen, and it sees them, too. There are block_size positions: raises ValueError if that is too few.
        """
        n_tokens, block_size = ids.size(1), self.params.block_size
        n_in_all = n_tokens if cache is None else cache.seen + n_tokens
        if n_in_all > block_size:
            raise ValueError(f"{n_in_all} tokens are more than block_size, which is {block_size}")
        if cache is None:
            positions = self.position_embedding.weight[:n_tokens]  # (T, C)
        else:
            cache.make_room(n_tokens)
            positions = self.position_embedding(cache.positions(n_tokens))  # (B, T, C)
        mask = attention_mask(n_tokens, block_size, ids.device, cache)
        x = self.dropout(self.token_embedding(ids) + positions)  # (B, T, C)
        for block in self.blocks:
            x = block(x, mask, cache)
        if cache is not None:
            cache.advance(n_tokens)
        if last is not None:
            x = x[:, -last:]  # with a large vocabulary the head is most of the work
        return linear(self.final_norm(x), self.head_weight)  # (B, T, V)


class Block(nn.Module):
    """One layer: tokens exchange information, then each is worked on by itself."""

    def __init__(self, params: ModelParams, layer: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(params.n_embd, bias=params.bias)
        self.attention = CausalSelfAttention(params, layer)
        self.mlp_norm = nn.LayerNorm(params.n_embd, bias=params.bias)
        self.mlp = MLP(params)

    def forward(self, x: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask, cache)
        return x + self.mlp(self.mlp_norm(x))


class CausalSelfAttention(nn.Module):
    """Each token takes a weighted mean of the values of itself and the tokens before it, once per head."""

    def __init__(self, params: ModelParams, layer: int):
        super().__init__()
        self.params, self.layer = params, layer
        self.qkv = Linear(params.n_embd, 3 * params.n_embd, bias=params.bias)
        self.out = Linear(params.n_embd, params.n_embd, bias=params.bias)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.params.n_head, -1))  # (B, T, 3, H, D)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # (B, H, T, D) each
        if cache is not None:
            k, v = cache.extend(self.layer, k, v)  # (B, H, S, D)
        y = attend(q, k, v, mask, self.params.dropout if self.training else 0.0)
        return self.dropout(self.out(y))  # (B, T, C)


class MLP(nn.Module):
    """Two linear layers with a GELU between them, four times as wide as the rest."""

    def __init__(self, params: ModelParams):
        super().__init__()
        self.up = Linear(params.n_embd, 4 * params.n_embd, bias=params.bias)
        self.down = Linear(4 * params.n_embd, params.n_embd, bias=params.bias)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.up(x), approximate="tanh")  # (B, T, 4C)
        return self.dropout(self.down(x))  # (B, T, C)


def init_weights(model: GPT2) -> None:
    """Set every parameter to its initial value, as GPT-2 does (Radford et al. 2019).

    The two sublayers of each of n_layer blocks add to the residual stream; scaling their output layers by
    1/√(2·n_layer) keeps its variance from growing with depth.
    """
    residual_std = INIT_STD / math.sqrt(2 * model.params.n_layer)
    for name, parameter in model.named_parameters():
        if name.endswith(".bias"):
            nn.init.zeros_(parameter)
        elif name.endswith("norm.weight"):
            nn.init.ones_(parameter)
        elif name.endswith(("attention.out.weight", "mlp.down.weight")):
            nn.init.normal_(parameter, std=residual_std)
        else:
            nn.init.normal_(parameter, std=INIT_STD)
