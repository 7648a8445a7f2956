"""The same model in Hugging Face's transformers: as one of its architectures, and back.

| model                 | architecture there          |
|-----------------------|-----------------------------|
| classic               | GPT-2 (Radford et al. 2019) |
| modern, gelu or relu2 | NanoChat (Karpathy 2025)    |
| modern, swiglu        | Qwen3 (Yang et al. 2025)    |

More than names differs:

- GPT-2 keeps the matrices of its blocks as (in, out), and always has biases: zeros where the model has none.
- Qwen3 turns pairs of channels the other way round, which the sign of one of each pair makes up for.
- Qwen3 does not norm the embedding, and its norms have gains: the embedding is stored normed, gains are 1.

A config is a dict of JSON, weights are a dict of tensors: nothing of transformers is imported.

Shapes: C = n_embd channels, D = C / n_head of a head, K heads of queries or of keys, V = vocab_size.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from slm.core.errors import UserError
from slm.model.gpt import GPT
from slm.model.params import ModelParams
from slm.model.rope import NORM_EPS, ROTARY_BASE, RopeGPT, norm

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
ACTIVATIONS = {"gelu": "gelu_pytorch_tanh", "relu2": "relu2", "swiglu": "silu"}


class Architecture(NamedTuple):
    """An architecture of transformers, as far as this project's models go."""

    name: str  # of its class
    ours: str  # model.architecture
    keys: dict[str, str]  # this project's params, and what its config calls them
    fixed: dict[str, Any]  # the rest of its config that matters: no model here is otherwise
    names: dict[str, str]  # parts of the names of weights: this project's, and its own


ROPE_KEYS = {
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_kv_head": "num_key_value_heads",
    "n_embd": "hidden_size",
    "block_size": "max_position_embeddings",
    "activation": "hidden_act",
}
ROPE_FIXED = {
    "rms_norm_eps": NORM_EPS,
    "rope_parameters": {"rope_type": "default", "rope_theta": ROTARY_BASE},
    "attention_bias": False,
}
ROPE_NAMES = {
    "token_embedding": "model.embed_tokens",
    "head.weight": HEAD,
    "blocks": "model.layers",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
}
ARCHITECTURES = {  # by the `model_type` of their config
    "gpt2": Architecture(
        "GPT2LMHeadModel",
        "gpt2",
        keys={"n_layer": "n_layer", "n_head": "n_head", "n_embd": "n_embd", "block_size": "n_positions"},
        fixed={  # its defaults, too: a published config may leave them out
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "tie_word_embeddings": True,
        },
        names={
            "token_embedding": "transformer.wte",
            "position_embedding": "transformer.wpe",
            "blocks": "transformer.h",
            "attention_norm": "ln_1",
            "attention.qkv": "attn.c_attn",
            "attention.out": "attn.c_proj",
            "mlp_norm": "ln_2",
            "mlp.up": "mlp.c_fc",
            "mlp.down": "mlp.c_proj",
            "final_norm": "transformer.ln_f",
        },
    ),
    "nanochat": Architecture(
        "NanoChatForCausalLM",
        "rope",
        keys=ROPE_KEYS | {"tie_embeddings": "tie_word_embeddings"},
        fixed=ROPE_FIXED | {"final_logit_softcapping": None},
        names=ROPE_NAMES | {"mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"},
    ),
    "qwen3": Architecture(
        "Qwen3ForCausalLM",
        "rope",
        keys=ROPE_KEYS,
        fixed=ROPE_FIXED | {"tie_word_embeddings": False},  # its embedding is a normed one, its head is not
        names=ROPE_NAMES
        | {"mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj"},
    ),
}


def model_type(params: ModelParams) -> str:
    """The `model_type` of the architecture that these params make, a key of ARCHITECTURES."""
    if params.architecture == "gpt2":
        return "gpt2"
    return "qwen3" if params.activation == "swiglu" else "nanochat"


def to_config(model: GPT, end_of_text: int) -> dict[str, Any]:
    """What config.json says of the model; `end_of_text` is the id that every text begins and ends with."""
    params, kind = model.params, model_type(model.params)
    there = ARCHITECTURES[kind]
    config: dict[str, Any] = {"architectures": [there.name], "model_type": kind, "dtype": "float32"}
    config |= {"vocab_size": model.vocab_size, "bos_token_id": end_of_text, "eos_token_id": end_of_text}
    config |= {key: values_of(params)[ours] for ours, key in there.keys.items()} | there.fixed
    if isinstance(model, RopeGPT):
        config |= {
            "hidden_act": ACTIVATIONS[params.activation],
            "intermediate_size": _mlp_width(model),
            "attention_dropout": params.dropout,
            "pad_token_id": None,  # NanoChat's would be an ordinary token
        }
    else:
        config |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), params.dropout)
    if kind == "qwen3":
        window = {"use_sliding_window": True, "sliding_window": params.block_size, "max_window_layers": 0}
        config |= {"head_dim": params.head_size, **window}
    return config


def _mlp_width(model: RopeGPT) -> int:
    """Return the width of the hidden layer of the MLPs."""
    return len(model.state_dict()["blocks.0.mlp.up.weight"])


def to_weights(model: GPT) -> dict[str, Tensor]:
    """The model's weights as transformers keeps them; some are the model's own tensors, not copies."""
    params, weights = model.params, model.state_dict()
    found = {_renamed(name, params): _turned(name, weight, params) for name, weight in weights.items()}
    if model_type(params) == "qwen3":
        found |= {EMBEDDING: norm(weights["token_embedding.weight"]), HEAD: model.head_weight.detach()}
    return found | _constants(model)


def from_weights(weights: dict[str, Tensor], model: GPT, path: Path) -> dict[str, Tensor]:
    """The reverse of `to_weights`: what `model`, which gives names and shapes only, would have to load.

    `weights` has the names and shapes that `to_weights` gives, in float32, and came from `path`. Raises
    UserError if no model with these params has such.
    """
    params = model.params
    for name, value in _constants(model).items():
        if not torch.equal(weights[name], value):
            cause = "model.bias: false" if params.architecture == "gpt2" else "model.activation: swiglu"
            raise UserError(f"{path}: {name}: must be {value[0]:g} throughout for {cause}")
    found = {}
    for name in model.state_dict():
        found[name] = _turned(name, weights[_renamed(name, params)], params).clone()
    if model_type(params) == "qwen3":
        found["token_embedding.weight"] = _before_norm(weights, params.tie_embeddings, path)
    return found


def values_of(params: ModelParams) -> dict[str, Any]:
    """The params, heads of keys and values counted."""
    return params.model_dump() | {"n_kv_head": params.kv_heads}


def _renamed(name: str, params: ModelParams) -> str:
    """The name of a weight in transformers."""
    for ours, theirs in ARCHITECTURES[model_type(params)].names.items():
        name = name.replace(ours, theirs)
    return name


def _turned(name: str, weight: Tensor, params: ModelParams) -> Tensor:
    """A weight in the other layout, by this project's name. Turned twice, it is as it was."""
    kind = model_type(params)
    if kind == "gpt2" and name.startswith("blocks.") and weight.dim() == 2:
        return weight.T
    if kind == "qwen3" and name.endswith(("query.weight", "key.weight")):
        signs = weight.new_ones(params.head_size, 1)  # (D, 1)
        signs[params.head_size // 2 :] = -1
        return (weight.unflatten(0, (-1, params.head_size)) * signs).flatten(0, 1)  # (K · D, C)
    return weight


def _constants(model: GPT) -> dict[str, Tensor]:
    """Weights that only transformers has, by its names: biases of 0, or gains of 1."""
    params, kind = model.params, model_type(model.params)
    if kind == "gpt2" and not params.bias:
        return {
            _renamed(name, params).replace(".weight", ".bias"): torch.zeros(weight.size(0))
            for name, weight in model.state_dict().items()
            if "embedding" not in name
        }
    if kind != "qwen3":
        return {}
    gains = {"model.norm.weight": torch.ones(params.n_embd)}
    for layer in range(params.n_layer):
        for name in ("input_layernorm", "post_attention_layernorm"):
            gains[f"model.layers.{layer}.{name}.weight"] = torch.ones(params.n_embd)
        for name in ("q_norm", "k_norm"):
            gains[f"model.layers.{layer}.self_attn.{name}.weight"] = torch.ones(params.head_size)
    return gains


def _before_norm(weights: dict[str, Tensor], is_tied: bool, path: Path) -> Tensor:
    """An embedding (V, C) whose norm is the one that is stored: the head, if it is tied to it.

    A row of mean square s is divided by √(s + ε); its own becomes m = s / (s + ε), so s is ε·m / (1 − m).
    """
    normed, head = weights[EMBEDDING], weights[HEAD]
    if is_tied:
        if not torch.allclose(norm(head), normed, atol=1e-5):
            raise UserError(f"{path}: {HEAD}: must be the embedding for model.tie_embeddings: true")
        return head.clone()
    m = normed.double().square().mean(-1, keepdim=True)  # (V, 1)
    if m.max() > 1 + 1e-5:
        raise UserError(f"{path}: {EMBEDDING}: must be normed for model.activation: swiglu")
    return (normed * (NORM_EPS / (1 - m).clamp(min=1e-9)).sqrt()).float()
