"""Start from a model in Hugging Face's layout: a published GPT-2, say, or what `slm export` has written."""

from pathlib import Path
from typing import Any

from torch import Tensor

from slm.core.config import NOT_SET, PARAMS_FILE, is_set
from slm.core.errors import UserError
from slm.core.files import read_json
from slm.model.gpt import CONFIG, WEIGHTS, check_weights, gpt_shapes, read_weights
from slm.model.huggingface import (
    ACTIVATIONS,
    ARCHITECTURES,
    HEAD,
    from_weights,
    model_type,
    to_weights,
    values_of,
)
from slm.model.params import ModelParams

TOKENIZER = "tokenizer.json"


def read_pretrained(
    folder: Path, params: ModelParams, vocab_size: int, tokenizer: Path
) -> dict[str, Tensor] | None:
    """Return the weights of a folder for a model of these params and this vocabulary, or None for NOT_SET.

    `tokenizer` is the tokenizer.json of the tokens to be learned; if the folder has one, it must know the
    same tokens. Raises UserError if a file is missing or broken, with a line for each param that is another.
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
    model = gpt_shapes(params, vocab_size)
    weights = _tidied(read_weights(folder / WEIGHTS), params)
    check_weights(weights, to_weights(model), folder / WEIGHTS)
    return from_weights(weights, model, folder / WEIGHTS)


def _check_config(config: Any, params: ModelParams, path: Path) -> None:
    """Raise UserError if the params do not make the model that a config describes.

    The config of a published GPT-2 leaves out what is the default. Dropout is for the params to say, and so
    is whether a modern model looks back further than block_size.
    """
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in ARCHITECTURES:
        raise UserError(f"{path}: model_type: must be one of {', '.join(ARCHITECTURES)}, got {kind!r}")
    there = ARCHITECTURES[kind]
    if kind == "gpt2":
        config = there.fixed | config
    for key in (*there.keys.values(), *there.fixed):
        if key not in config:
            raise UserError(f"{path}: {key}: missing")
    for key, value in there.fixed.items():
        if config[key] != value:
            raise UserError(f"{path}: {key}: must be {value!r}, got {config[key]!r}")

    needed = {"architecture": there.ours} | {ours: config[key] for ours, key in there.keys.items()}
    if "activation" in needed:
        ours = {theirs: ours for ours, theirs in ACTIVATIONS.items()}
        needed["activation"] = ours.get(needed["activation"], needed["activation"])
    given = values_of(params)
    lines = [
        f"{PARAMS_FILE}: model.{key}: must be {value} with train.init_from {path.parent}, got {given[key]}"
        for key, value in needed.items()
        if given[key] != value
    ]
    if lines:
        raise UserError("\n".join(lines))


def _check_vocabulary(config: dict[str, Any], vocab_size: int, folder: Path, tokenizer: Path) -> None:
    """Raise UserError if the checkpoint's tokens are others than those of the tokenizer."""
    if config.get("vocab_size") != vocab_size:
        found = config.get("vocab_size")
        raise UserError(f"{folder / CONFIG}: vocab_size: {found} found, the tokens are of {vocab_size}")
    if not (folder / TOKENIZER).is_file():
        return
    theirs, ours = (_vocabulary(path) for path in (folder / TOKENIZER, tokenizer))
    differing = [token for token in ours if theirs.get(token) != ours[token]]
    if differing:
        token, count = differing[0], len(differing)
        raise UserError(
            f"{folder / TOKENIZER}: {count:,} of {len(ours):,} tokens are not those of {tokenizer}, "
            f"{token!r} is {theirs.get(token, 'none')}, not {ours[token]}"
        )


def _vocabulary(path: Path) -> dict[str, int]:
    """The tokens of a tokenizer.json and their ids."""
    match read_json(path):
        case {"model": {"vocab": dict(vocabulary)}}:
            return vocabulary
    raise UserError(f"{path}: not a BPE")


def _tidied(weights: dict[str, Tensor], params: ModelParams) -> dict[str, Tensor]:
    """Published weights as `to_weights` has them, in float32.

    GPT-2's may lack a prefix and have the masks of attention among them; a tied head may be stored twice.
    """
    kind, found = model_type(params), {}
    for name, weight in weights.items():
        if kind == "gpt2" and not name.startswith(("transformer.", HEAD)):
            name = f"transformer.{name}"
        is_mask = name.endswith((".attn.bias", ".attn.masked_bias"))
        is_copy = name == HEAD and (kind == "gpt2" or (kind == "nanochat" and params.tie_embeddings))
        if not (is_mask or is_copy):
            found[name] = weight.float()
    return found
