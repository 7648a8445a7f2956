"""GPT: a Transformer that predicts each token from those before it.

The architecture is GPT-2's (Radford et al. 2019), so that its weights fit other implementations of GPT-2:

- a stack of Transformer blocks, decoder only (Vaswani et al. 2017; Radford et al. 2018)
- learned embeddings of tokens and of positions, added up (Radford et al. 2018)
- causal multi-head self-attention (Vaswani et al. 2017), in a fused kernel (Dao et al. 2022)
- layer norm (Ba et al. 2016) before each sublayer, not after it, and once at the end (Radford et al. 2019)
- GELU in its tanh approximation (Hendrycks & Gimpel 2016)
- dropout of embeddings, attention weights and residuals (Srivastava et al. 2014)
- an output head that is the token embedding itself (Press & Wolf 2017)
- small initial weights, smaller still where a sublayer adds to the residual stream (Radford et al. 2019)

Shapes: B sequences, T tokens in each, C = n_embd channels, H = n_head heads, D = C / H, V = vocab_size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slm.model.params import ModelParams

IGNORED = -1  # a target that counts for nothing
INIT_STD = 0.02


class GPT(nn.Module):
    """A language model: token ids in, logits of the next token out."""

    def __init__(self, params: ModelParams, vocab_size: int):
        super().__init__()
        self.params = params
        self.vocab_size = vocab_size
        self.token_embedding = nn.Embedding(vocab_size, params.n_embd)
        self.position_embedding = nn.Embedding(params.block_size, params.n_embd)
        self.dropout = nn.Dropout(params.dropout)
        self.blocks = nn.ModuleList(Block(params) for _ in range(params.n_layer))
        self.final_norm = nn.LayerNorm(params.n_embd, bias=params.bias)
        init_weights(self)

    @property
    def device(self) -> torch.device:
        """Where the weights are, and the token ids must be."""
        return self.token_embedding.weight.device

    def forward(self, ids: Tensor, last: int | None = None) -> Tensor:
        """Logits of the token after each position, or after the `last` positions only.

        `ids` is (B, T) with T at most block_size; the logits are (B, T, V) or (B, last, V).
        """
        n_tokens, block_size = ids.size(1), self.params.block_size
        if n_tokens > block_size:
            raise ValueError(f"{n_tokens} tokens are more than block_size, which is {block_size}")
        x = self.token_embedding(ids) + self.position_embedding.weight[:n_tokens]  # (B, T, C)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        if last is not None:
            x = x[:, -last:]  # with a large vocabulary the head is most of the work
        x = self.final_norm(x)
        return F.linear(x, self.token_embedding.weight)  # (B, T, V); the head is the embedding


class Block(nn.Module):
    """One layer: tokens exchange information, then each is worked on by itself."""

    def __init__(self, params: ModelParams):
        super().__init__()
        self.attention_norm = nn.LayerNorm(params.n_embd, bias=params.bias)
        self.attention = CausalSelfAttention(params)
        self.mlp_norm = nn.LayerNorm(params.n_embd, bias=params.bias)
        self.mlp = MLP(params)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class CausalSelfAttention(nn.Module):
    """Each token takes a weighted mean of the values of itself and the tokens before it, once per head."""

    def __init__(self, params: ModelParams):
        super().__init__()
        self.n_head = params.n_head
        self.attention_dropout = params.dropout
        self.qkv = nn.Linear(params.n_embd, 3 * params.n_embd, bias=params.bias)
        self.out = nn.Linear(params.n_embd, params.n_embd, bias=params.bias)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.n_head, -1))  # (B, T, 3, H, D)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # (B, H, T, D) each
        dropout = self.attention_dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)  # (B, H, T, D)
        return self.dropout(self.out(y.transpose(1, 2).flatten(-2)))  # (B, T, C)


class MLP(nn.Module):
    """Two linear layers with a GELU between them, four times as wide as the rest."""

    def __init__(self, params: ModelParams):
        super().__init__()
        self.up = nn.Linear(params.n_embd, 4 * params.n_embd, bias=params.bias)
        self.down = nn.Linear(4 * params.n_embd, params.n_embd, bias=params.bias)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.up(x), approximate="tanh")  # (B, T, 4C)
        return self.dropout(self.down(x))  # (B, T, C)


def init_weights(model: GPT) -> None:
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


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood in nats of `targets` (B, T) under `logits` (B, T, V).

    Targets that are IGNORED count for nothing. `reduction` is "mean", "sum" or "none": (B·T,).
    """
    return F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction=reduction
    )


def n_params(model: nn.Module) -> int:
    """How many numbers the model learns; the head is the embedding and counts once."""
    return sum(parameter.numel() for parameter in model.parameters())
