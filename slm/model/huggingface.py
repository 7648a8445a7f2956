"""Convert models to and from the formats of Hugging Face's transformers, and read published weights.

| model                 | transformers architecture   |
|-----------------------|-----------------------------|
| gpt2                  | GPT-2 (Radford et al. 2019) |
| rope, gelu or relu2   | NanoChat (Karpathy 2025)    |
| rope, swiglu          | Qwen3 (Yang et al. 2025)    |

Beside the names of weights, these differ:

- GPT-2 stores the matrices of its blocks transposed, and always has biases: zeros if the model has none.
- Qwen3 rotates pairs of channels in the other direction; the sign of one channel of each pair compensates.
- Qwen3 does not normalize the embedding, and its norms have gains: the stored embedding is normalized, and
  the gains are 1.

Configs are dicts of JSON, weights are dicts of tensors; transformers itself is not imported.

Shapes: C = n_embd channels, D = head_dim, K query or key heads, V = vocab_size.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from slm.core.config import NOT_SET, PARAMS_FILE, is_set
from slm.core.errors import UserError
from slm.core.files import read_json
from slm.model.gpt import CONFIG, GPT, WEIGHTS, RopeGPT, check_weights, meta_gpt, read_weights
from slm.model.layers import NORM_EPS, ROTARY_BASE, norm
from slm.model.params import ModelParams

TOKENIZER = "tokenizer.json"
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
ACTIVATIONS = {"gelu": "gelu_pytorch_tanh", "relu2": "relu2", "swiglu": "silu"}


class Architecture(NamedTuple):
    """An architecture of transformers, restricted to what models of this project can be."""

    class_name: str
    # The value of model.architecture.
    architecture: str
    # Names of this project's params in its config.
    keys: dict[str, str]
    # All other settings of its config that affect the model.
    constants: dict[str, Any]
    # Parts of weight names, from this project's to its own.
    weight_names: dict[str, str]


ROPE_KEYS = {
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_kv_head": "num_key_value_heads",
    "n_embd": "hidden_size",
    "block_size": "max_position_embeddings",
    "activation": "hidden_act",
}
ROPE_CONSTANTS = {
    "rms_norm_eps": NORM_EPS,
    "rope_parameters": {"rope_type": "default", "rope_theta": ROTARY_BASE},
    "attention_bias": False,
}
ROPE_WEIGHT_NAMES = {
    "token_embedding": "model.embed_tokens",
    "head.weight": HEAD,
    "blocks": "model.layers",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
}
# By the `model_type` of a config.
ARCHITECTURES = {
    "gpt2": Architecture(
        "GPT2LMHeadModel",
        "gpt2",
        keys={"n_layer": "n_layer", "n_head": "n_head", "n_embd": "n_embd", "block_size": "n_positions"},
        # These are also the defaults, which a published config may omit.
        constants={
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "tie_word_embeddings": True,
        },
        weight_names={
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
        constants=ROPE_CONSTANTS | {"final_logit_softcapping": None},
        weight_names=ROPE_WEIGHT_NAMES | {"mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"},
    ),
    "qwen3": Architecture(
        "Qwen3ForCausalLM",
        "rope",
        keys=ROPE_KEYS,
        # The stored embedding is normalized and the head is not, so they are never tied.
        constants=ROPE_CONSTANTS | {"tie_word_embeddings": False},
        weight_names=ROPE_WEIGHT_NAMES
        | {"mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj"},
    ),
}


def model_type(params: ModelParams) -> str:
    """Return the `model_type` of the architecture for these params, a key of ARCHITECTURES."""
    if params.architecture == "gpt2":
        return "gpt2"
    return "qwen3" if params.activation == "swiglu" else "nanochat"


def to_config(model: GPT, end_of_text: int) -> dict[str, Any]:
    """Return the config.json of transformers; `end_of_text` is the id that begins and ends each document."""
    params, kind = model.params, model_type(model.params)
    target = ARCHITECTURES[kind]
    config: dict[str, Any] = {"architectures": [target.class_name], "model_type": kind, "dtype": "float32"}
    config |= {"vocab_size": model.vocab_size, "bos_token_id": end_of_text, "eos_token_id": end_of_text}
    config |= {key: _config_values(params)[name] for name, key in target.keys.items()} | target.constants
    if isinstance(model, RopeGPT):
        config |= {
            "hidden_act": ACTIVATIONS[params.activation],
            "intermediate_size": len(model.state_dict()["blocks.0.mlp.up.weight"]),
            "attention_dropout": params.dropout,
            # NanoChat's default is an ordinary token here.
            "pad_token_id": None,
        }
    else:
        config |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), params.dropout)
    if kind == "qwen3":
        window = {"use_sliding_window": True, "sliding_window": params.block_size, "max_window_layers": 0}
        config |= {"head_dim": params.head_dim, **window}
    return config


def to_weights(model: GPT) -> dict[str, Tensor]:
    """Return the weights under transformers' names and layouts; some share memory with the model."""
    params, state = model.params, model.state_dict()
    weights = {_rename(name, params): _convert(name, weight, params) for name, weight in state.items()}
    if model_type(params) == "qwen3":
        weights |= {EMBEDDING: norm(state["token_embedding.weight"]), HEAD: model.head_weight.detach()}
    return weights | _constant_weights(model)


def from_weights(weights: dict[str, Tensor], model: GPT, path: Path) -> dict[str, Tensor]:
    """Return the state_dict for `model` from transformers' weights, the inverse of `to_weights`.

    `weights` are float32 with the names and shapes that `to_weights` gives, read from `path`; `model` may be
    on the meta device. Raises UserError if they have biases or gains that the model lacks.
    """
    params = model.params
    for name, value in _constant_weights(model).items():
        if not torch.equal(weights[name], value):
            cause = "model.bias: false" if params.architecture == "gpt2" else "model.activation: swiglu"
            raise UserError(f"{path}: {name}: must be {value[0]:g} throughout for {cause}")
    state = {}
    for name in model.state_dict():
        state[name] = _convert(name, weights[_rename(name, params)], params).clone()
    if model_type(params) == "qwen3":
        state["token_embedding.weight"] = _unnormalize(weights, params.tie_embeddings, path)
    return state


def _config_values(params: ModelParams) -> dict[str, Any]:
    """Return the params by name, with the number of key-value heads in place of null."""
    return params.model_dump() | {"n_kv_head": params.kv_heads}


def _rename(name: str, params: ModelParams) -> str:
    """Return the name of a weight in transformers."""
    for part, replacement in ARCHITECTURES[model_type(params)].weight_names.items():
        name = name.replace(part, replacement)
    return name


def _convert(name: str, weight: Tensor, params: ModelParams) -> Tensor:
    """Convert a weight, given by this project's name, to the other layout; applied twice it does nothing."""
    kind = model_type(params)
    if kind == "gpt2" and name.startswith("blocks.") and weight.dim() == 2:
        return weight.T
    if kind == "qwen3" and name.endswith(("query.weight", "key.weight")):
        signs = weight.new_ones(params.head_dim, 1)  # (D, 1)
        signs[params.head_dim // 2 :] = -1
        return (weight.unflatten(0, (-1, params.head_dim)) * signs).flatten(0, 1)  # (K · D, C)
    return weight


def _constant_weights(model: GPT) -> dict[str, Tensor]:
    """Return the weights that only transformers has, by its names: biases of 0, or gains of 1."""
    params, kind = model.params, model_type(model.params)
    if kind == "gpt2" and not params.bias:
        return {
            _rename(name, params).replace(".weight", ".bias"): torch.zeros(weight.size(0))
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
            gains[f"model.layers.{layer}.self_attn.{name}.weight"] = torch.ones(params.head_dim)
    return gains


def _unnormalize(weights: dict[str, Tensor], is_tied: bool, path: Path) -> Tensor:
    """Return an embedding (V, C) whose RMSNorm is the stored one; if it is tied, that is the head.

    RMSNorm divides a row of mean square s by √(s + ε). The result has mean square m = s / (s + ε), so that
    s = ε·m / (1 − m).
    """
    normalized, head = weights[EMBEDDING], weights[HEAD]
    if is_tied:
        if not torch.allclose(norm(head), normalized, atol=1e-5):
            raise UserError(f"{path}: {HEAD}: must be the embedding for model.tie_embeddings: true")
        return head.clone()
    m = normalized.double().square().mean(-1, keepdim=True)  # (V, 1)
    if m.max() > 1 + 1e-5:
        raise UserError(f"{path}: {EMBEDDING}: must be normalized for model.activation: swiglu")
    return (normalized * (NORM_EPS / (1 - m).clamp(min=1e-9)).sqrt()).float()


def read_pretrained(
    folder: Path, params: ModelParams, vocab_size: int, tokenizer: Path
) -> dict[str, Tensor] | None:
    """Read the initial weights of train.init_from: a published model, or what `slm export` wrote.

    Returns None for NOT_SET. `tokenizer` is the tokenizer.json of the training tokens; if the folder contains
    one, its tokens must be the same. Raises UserError if a file is missing or corrupt, with a line for each
    param that does not match.
    """
    if not is_set(str(folder), "train.init_from"):
        return None
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; train.init_from must be a folder, or {NOT_SET}")
    for path in (folder / CONFIG, folder / WEIGHTS):
        if not path.is_file():
            raise UserError(f"{path}: no such file; train.init_from needs {CONFIG} and {WEIGHTS}")
    config = read_json(folder / CONFIG)
    _check_config(config, params, folder / CONFIG)
    _check_vocabulary(config, vocab_size, folder, tokenizer)
    model = meta_gpt(params, vocab_size)
    weights = _clean_up(read_weights(folder / WEIGHTS), params)
    check_weights(weights, to_weights(model), folder / WEIGHTS)
    return from_weights(weights, model, folder / WEIGHTS)


def _check_config(config: Any, params: ModelParams, path: Path) -> None:
    """Raise UserError unless the params describe the model of a config.

    Dropout is free to differ, and so is the attention window of a RopeGPT.
    """
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in ARCHITECTURES:
        raise UserError(f"{path}: model_type: must be one of {', '.join(ARCHITECTURES)}, got {kind!r}")
    source = ARCHITECTURES[kind]
    if kind == "gpt2":
        config = source.constants | config
    for key in (*source.keys.values(), *source.constants):
        if key not in config:
            raise UserError(f"{path}: {key}: missing")
    for key, value in source.constants.items():
        if config[key] != value:
            raise UserError(f"{path}: {key}: must be {value!r}, got {config[key]!r}")

    expected = {"architecture": source.architecture}
    expected |= {name: config[key] for name, key in source.keys.items()}
    if "activation" in expected:
        names = {theirs: name for name, theirs in ACTIVATIONS.items()}
        expected["activation"] = names.get(expected["activation"], expected["activation"])
    given = _config_values(params)
    lines = [
        f"{PARAMS_FILE}: model.{key}: must be {value} with train.init_from {path.parent}, got {given[key]}"
        for key, value in expected.items()
        if given[key] != value
    ]
    if lines:
        raise UserError("\n".join(lines))


def _check_vocabulary(config: dict[str, Any], vocab_size: int, folder: Path, tokenizer: Path) -> None:
    """Raise UserError unless the tokens of a folder's model are those of the tokenizer."""
    if config.get("vocab_size") != vocab_size:
        raise UserError(
            f"{folder / CONFIG}: vocab_size: must be {vocab_size}, the size of the tokenizer, "
            f"got {config.get('vocab_size')}"
        )
    if not (folder / TOKENIZER).is_file():
        return
    pretrained, ours = (_vocabulary(path) for path in (folder / TOKENIZER, tokenizer))
    differing = [token for token in ours if pretrained.get(token) != ours[token]]
    if differing:
        token, count = differing[0], len(differing)
        raise UserError(
            f"{folder / TOKENIZER}: {count:,} of {len(ours):,} tokens differ from {tokenizer}: "
            f"the id of {token!r} must be {ours[token]}, got {pretrained.get(token, 'none')}"
        )


def _vocabulary(path: Path) -> dict[str, int]:
    """Read the tokens and ids of a tokenizer.json."""
    match read_json(path):
        case {"model": {"vocab": dict(vocabulary)}}:
            return vocabulary
    raise UserError(f"{path}: not a BPE tokenizer")


def _clean_up(weights: dict[str, Tensor], params: ModelParams) -> dict[str, Tensor]:
    """Return published weights with the names of `to_weights`, in float32.

    GPT-2's may lack a prefix and include attention masks; a tied head may be stored twice.
    """
    kind, cleaned = model_type(params), {}
    for name, weight in weights.items():
        if kind == "gpt2" and not name.startswith(("transformer.", HEAD)):
            name = f"transformer.{name}"
        is_mask = name.endswith((".attn.bias", ".attn.masked_bias"))
        is_tied_head = name == HEAD and (kind == "gpt2" or (kind == "nanochat" and params.tie_embeddings))
        if not (is_mask or is_tied_head):
            cleaned[name] = weight.float()
    return cleaned
