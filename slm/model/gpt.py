"""GPT language models in two architectures, and how they are saved.

`GPT2` is the architecture of the tutorials (Radford et al. 2019), and weights are interchangeable with it:

- a stack of decoder-only Transformer blocks (Vaswani et al. 2017; Radford et al. 2018)
- learned token and position embeddings, added up
- causal multi-head self-attention in a fused kernel (Dao et al. 2022)
- LayerNorm (Ba et al. 2016) before each sublayer and at the end
- GELU in its tanh approximation (Hendrycks & Gimpel 2016)
- dropout of embeddings, attention weights and residuals (Srivastava et al. 2014)
- an output head tied to the token embedding (Press & Wolf 2017)

`RopeGPT` has what proved itself since, mostly in speed-runs of small models. With `activation: relu2` or
`gelu` it is NanoChat's architecture (Karpathy 2025) without the soft cap of logits; with `swiglu` it is
Qwen3's (Yang et al. 2025) with all gains at 1:

- rotary position embeddings (Su et al. 2021)
- RMSNorm without gains (Zhang & Sennrich 2019) before each sublayer, after the embedding and at the end
- RMSNorm of queries and keys, which bounds the attention logits (Henry et al. 2020)
- grouped-query attention (Ainslie et al. 2023)
- GELU, ReLU² (So et al. 2021) or SwiGLU (Shazeer 2020), and no biases
- zero-initialized output layers, so that a new model is a sum of embeddings (Zhang et al. 2019)
- an untied head, zero-initialized, or the token embedding

RopeGPT attends to at most block_size tokens back, in texts of any length. GPT2 has block_size positions.

Shapes: B sequences, T tokens, C = n_embd channels, H = n_head query heads, K = n_kv_head key-value heads,
D = head_dim = C / H, S key positions, V = vocab_size.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from slm.core.config import validate
from slm.core.errors import UserError
from slm.core.files import atomic_write, read_json, write_json
from slm.model.layers import (
    MLP,
    KVCache,
    Linear,
    SwiGLU,
    attend,
    attention_mask,
    linear,
    norm,
    rotary_angles,
    rotate,
)
from slm.model.loss import linear_cross_entropy
from slm.model.params import ModelConfig, ModelParams

# GPT-2's standard deviation of initial weights.
INIT_STD = 0.02
# A norm follows the embedding, so this scale does not change the output, only how fast the embedding learns.
ROPE_EMBEDDING_STD = 0.03
CONFIG = "config.json"
WEIGHTS = "model.safetensors"


class GPT(nn.Module):
    """A language model: token ids in, logits of the next token out. GPT2 and RopeGPT implement `hidden`."""

    def __init__(self, params: ModelParams, vocab_size: int):
        super().__init__()
        self.params = params
        self.vocab_size = vocab_size
        self.token_embedding = nn.Embedding(vocab_size, params.n_embd)
        self.dropout = nn.Dropout(params.dropout)

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self.token_embedding.weight.device

    @property
    def head_weight(self) -> Tensor:
        """Return the weight of the output head (V, C)."""
        return self.token_embedding.weight

    def forward(self, ids: Tensor, last: int | None = None, cache: KVCache | None = None) -> Tensor:
        """Return the logits of the token after each position, or after the `last` positions only.

        `ids` is (B, T), the logits are (B, T, V) or (B, last, V). With a cache, `ids` continue the cached
        sequences.
        """
        x = self.hidden(ids, cache)
        # With a large vocabulary the head is most of the work.
        return linear(x if last is None else x[:, -last:], self.head_weight)

    def loss(self, ids: Tensor, targets: Tensor, reduction: str = "sum") -> Tensor:
        """Return the cross-entropy in nats of `targets`, which follow the last positions of `ids` (B, T).

        `targets` is (B, L) with L ≤ T; IGNORE_INDEX does not count. `reduction` is "sum" or "none": (B, L).
        The logits of a large batch never exist as a whole.
        """
        x = self.hidden(ids)[:, -targets.size(1) :]
        losses = linear_cross_entropy(x.flatten(0, 1), self.head_weight, targets.flatten(), reduction)
        return losses if reduction == "sum" else losses.view_as(targets)

    def hidden(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Return the input of the output head (B, T, C)."""
        raise NotImplementedError


class GPT2(GPT):
    """The GPT-2 architecture. `hidden` raises ValueError for more than block_size tokens."""

    def __init__(self, params: ModelParams, vocab_size: int):
        super().__init__(params, vocab_size)
        self.position_embedding = nn.Embedding(params.block_size, params.n_embd)
        self.blocks = nn.ModuleList(GPT2Block(params, layer) for layer in range(params.n_layer))
        self.final_norm = nn.LayerNorm(params.n_embd, bias=params.bias)
        init_gpt2(self)

    def hidden(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        n_tokens, block_size = ids.size(1), self.params.block_size
        context_length = n_tokens if cache is None else cache.length + n_tokens
        if context_length > block_size:
            raise ValueError(f"the context must be at most block_size = {block_size}, got {context_length}")
        if cache is None:
            positions = self.position_embedding.weight[:n_tokens]  # (T, C)
        else:
            cache.reserve(n_tokens)
            positions = self.position_embedding(cache.positions(n_tokens))  # (B, T, C)
        mask = attention_mask(n_tokens, block_size, ids.device, cache)
        x = self.dropout(self.token_embedding(ids) + positions)  # (B, T, C)
        for block in self.blocks:
            x = block(x, mask, cache)
        if cache is not None:
            cache.advance(n_tokens)
        return self.final_norm(x)  # (B, T, C)


class GPT2Block(nn.Module):
    """Attention, then an MLP, each with a norm before it and a residual connection around both."""

    def __init__(self, params: ModelParams, layer: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(params.n_embd, bias=params.bias)
        self.attention = GPT2Attention(params, layer)
        self.mlp_norm = nn.LayerNorm(params.n_embd, bias=params.bias)
        self.mlp = MLP(params, bias=params.bias)

    def forward(self, x: Tensor, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask, cache)
        return x + self.mlp(self.mlp_norm(x))


class GPT2Attention(nn.Module):
    """Causal multi-head self-attention with one matrix for queries, keys and values."""

    def __init__(self, params: ModelParams, layer: int):
        super().__init__()
        self.params, self.layer = params, layer
        self.qkv = Linear(params.n_embd, 3 * params.n_embd, bias=params.bias)
        self.out = Linear(params.n_embd, params.n_embd, bias=params.bias)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.params.n_head, -1))  # (B, T, 3, H, D)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # (B, H, T, D) each
        if cache is not None:
            k, v = cache.update(self.layer, k, v)  # (B, H, S, D)
        y = attend(q, k, v, mask, self.params.dropout if self.training else 0.0)
        return self.dropout(self.out(y))  # (B, T, C)


class RopeGPT(GPT):
    """The architecture with rotary positions, RMSNorm and QK-norm."""

    def __init__(self, params: ModelParams, vocab_size: int):
        super().__init__(params, vocab_size)
        self.blocks = nn.ModuleList(RopeBlock(params, layer) for layer in range(params.n_layer))
        self.head = None if params.tie_embeddings else Linear(params.n_embd, vocab_size, bias=False)
        init_rope(self)

    @property
    def head_weight(self) -> Tensor:
        return self.token_embedding.weight if self.head is None else self.head.weight

    def hidden(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        n_tokens = ids.size(1)
        if cache is None:
            positions = torch.arange(n_tokens, device=ids.device)  # (T,)
        else:
            cache.reserve(n_tokens)
            positions = cache.positions(n_tokens)[:, None]  # (B, 1, T)
        mask = attention_mask(n_tokens, self.params.block_size, ids.device, cache)
        rotation = rotary_angles(positions, self.params.head_dim)
        x = self.dropout(norm(self.token_embedding(ids)))  # (B, T, C)
        for block in self.blocks:
            x = block(x, rotation, mask, cache)
        if cache is not None:
            cache.advance(n_tokens)
        return norm(x)  # (B, T, C)


class RopeBlock(nn.Module):
    """Attention, then an MLP, each with a norm before it and a residual connection around both."""

    def __init__(self, params: ModelParams, layer: int):
        super().__init__()
        self.attention = RopeAttention(params, layer)
        self.mlp = SwiGLU(params) if params.activation == "swiglu" else MLP(params, bias=False)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        x = x + self.attention(norm(x), rotation, mask, cache)
        return x + self.mlp(norm(x))


class RopeAttention(nn.Module):
    """Causal grouped-query self-attention with rotary positions and QK-norm."""

    def __init__(self, params: ModelParams, layer: int):
        super().__init__()
        self.params, self.layer = params, layer
        kv_channels = params.kv_heads * params.head_dim
        self.query = Linear(params.n_embd, params.n_embd, bias=False)
        self.key = Linear(params.n_embd, kv_channels, bias=False)
        self.value = Linear(params.n_embd, kv_channels, bias=False)
        self.out = Linear(params.n_embd, params.n_embd, bias=False)
        self.dropout = nn.Dropout(params.dropout)

    def forward(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        q = self.query(x).unflatten(-1, (-1, self.params.head_dim)).transpose(1, 2)  # (B, H, T, D)
        k = self.key(x).unflatten(-1, (-1, self.params.head_dim)).transpose(1, 2)  # (B, K, T, D)
        v = self.value(x).unflatten(-1, (-1, self.params.head_dim)).transpose(1, 2)  # (B, K, T, D)
        # Under autocast the norm returns float32.
        q = norm(rotate(q, *rotation)).type_as(v)
        k = norm(rotate(k, *rotation)).type_as(v)
        if cache is not None:
            k, v = cache.update(self.layer, k, v)  # (B, K, S, D)
        y = attend(q, k, v, mask, self.params.dropout if self.training else 0.0)
        return self.dropout(self.out(y))  # (B, T, C)


def init_gpt2(model: GPT2) -> None:
    """Initialize the weights as GPT-2 does (Radford et al. 2019).

    Two sublayers of each block add to the residual stream. Scaling their output layers by 1/√(2·n_layer)
    keeps its variance independent of depth.
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


def init_rope(model: RopeGPT) -> None:
    """Initialize output layers and head to zero, the embedding normal, the rest uniform with std 1/√C."""
    bound = math.sqrt(3 / model.params.n_embd)
    for name, parameter in model.named_parameters():
        if name == "token_embedding.weight":
            nn.init.normal_(parameter, std=ROPE_EMBEDDING_STD)
        elif name.endswith(("attention.out.weight", "mlp.down.weight")) or name == "head.weight":
            nn.init.zeros_(parameter)
        else:
            nn.init.uniform_(parameter, -bound, bound)


def new_gpt(params: ModelParams, vocab_size: int) -> GPT:
    """Return a model with random weights, drawn from torch's global generator."""
    return (RopeGPT if params.architecture == "rope" else GPT2)(params, vocab_size)


def meta_gpt(params: ModelParams, vocab_size: int) -> GPT:
    """Return a model on the meta device: names, shapes and types of the weights without memory for them."""
    with torch.device("meta"), _SkipInit():
        return new_gpt(params, vocab_size)


class _SkipInit(TorchFunctionMode):
    """Skip torch.nn.init, which on the meta device imports torch's compiler and takes a second."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        is_init = getattr(func, "__module__", None) == "torch.nn.init"
        return None if is_init else func(*args, **kwargs or {})


def count_params(model: nn.Module) -> int:
    """Return the number of parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def save_model(model: GPT, folder: Path) -> None:
    """Write config.json and model.safetensors to `folder`: both, or neither if there is an error."""
    config = ModelConfig(architecture="gpt", vocab_size=model.vocab_size, model=model.params)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_write(folder / WEIGHTS) as temporary:
        temporary.write_bytes(safetensors.torch.save(weights))
        write_json(folder / CONFIG, config.model_dump())


def load_model(folder: Path, device: torch.device | str = "cpu", vocab_size: int | None = None) -> GPT:
    """Read a model that `save_model` wrote, in evaluation mode. `vocab_size` is that of the tokenizer.

    Neither JSON nor safetensors can contain code. Raises UserError if a file is missing or corrupt, does not
    match config.json or `vocab_size`, or has weights that are not finite.
    """
    config = validate(ModelConfig, read_json(folder / CONFIG), str(folder / CONFIG))
    if vocab_size not in (None, config.vocab_size):
        raise UserError(
            f"{folder / CONFIG}: config.vocab_size: must be {vocab_size}, the size of the tokenizer, "
            f"got {config.vocab_size}"
        )
    weights = read_weights(folder / WEIGHTS)
    model = meta_gpt(config.model, config.vocab_size)
    check_weights(weights, model.state_dict(), folder / WEIGHTS)
    model.load_state_dict(weights, assign=True)
    return model.to(device).eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, by name. Raises UserError if it cannot be read."""
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    except OSError as error:
        raise UserError(f"{path}: could not be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a complete safetensors file: {error}") from None


def check_weights(weights: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    """Raise UserError unless the weights have the expected names, types and shapes and are finite."""
    for name in sorted(weights.keys() | expected.keys()):
        actual, wanted = (_describe(tensors.get(name)) for tensors in (weights, expected))
        if actual != wanted:
            raise UserError(f"{path}: {name}: must be {wanted} to match {CONFIG}, got {actual}")
        if not weights[name].isfinite().all():
            raise UserError(f"{path}: {name}: contains NaN or infinity")


def _describe(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"
