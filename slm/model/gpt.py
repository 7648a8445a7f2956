"""GPT: a Transformer that predicts each token from those before it, in one of two architectures.

Shapes: B sequences, T tokens in each, V = vocab_size.
A trained model on disk: `config.json` says how to build it, `model.safetensors` holds its weights.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from slm.core.config import validate
from slm.core.errors import UserError
from slm.core.files import read_json, replacing, write_json
from slm.model.gpt2 import GPT2
from slm.model.params import ModelConfig, ModelParams
from slm.model.rope import RopeGPT

GPT = GPT2 | RopeGPT
IGNORED = -1  # a target that counts for nothing


def new_gpt(params: ModelParams, vocab_size: int) -> GPT:
    """A new model, its weights drawn from torch's random numbers."""
    return (RopeGPT if params.architecture == "rope" else GPT2)(params, vocab_size)


def gpt_shapes(params: ModelParams, vocab_size: int) -> GPT:
    """A model without weights, on the meta device: only their names, shapes and types are there."""
    with torch.device("meta"), _NoInit():
        return new_gpt(params, vocab_size)


class _NoInit(TorchFunctionMode):
    """Skips torch.nn.init, which for weights that are not there imports torch's compiler: a second."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        is_init = getattr(func, "__module__", None) == "torch.nn.init"
        return None if is_init else func(*args, **kwargs or {})


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood in nats of `targets` (B, T) under `logits` (B, T, V).

    Targets that are IGNORED count for nothing. `reduction` is "mean", "sum" or "none": (B·T,).
    """
    return F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction=reduction
    )


def n_params(model: nn.Module) -> int:
    """How many numbers the model learns; a head that is the embedding counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def save_model(model: GPT, folder: Path) -> None:
    """Write the model to `folder`: both files whole, or neither."""
    config = ModelConfig(architecture="gpt", vocab_size=model.vocab_size, model=model.params)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with replacing(folder / WEIGHTS) as temporary:
        temporary.write_bytes(safetensors.torch.save(weights))
        write_json(folder / CONFIG, config.model_dump())  # if this fails, the weights stay out too


def load_model(folder: Path, device: torch.device | str = "cpu", vocab_size: int | None = None) -> GPT:
    """Read a model that `save_model` wrote, in evaluation mode; if `vocab_size` is given, it must be its own.

    Only JSON and safetensors are read: neither can hold code. Raises UserError if a file is missing, cut
    short or not of the shapes that config.json promises, or a weight is no number.
    """
    config = validate(ModelConfig, read_json(folder / CONFIG), str(folder / CONFIG))
    if vocab_size not in (None, config.vocab_size):
        raise UserError(
            f"{folder / CONFIG}: config.vocab_size: {config.vocab_size} found, the tokens are of {vocab_size}"
        )
    weights = read_weights(folder / WEIGHTS)
    model = gpt_shapes(config.model, config.vocab_size)
    check_weights(weights, model.state_dict(), folder / WEIGHTS)
    model.load_state_dict(weights, assign=True)
    return model.to(device).eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name. Raises UserError if it cannot be read."""
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    except OSError as error:
        raise UserError(f"{path}: could not be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file: {error}") from None


def check_weights(weights: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    """Raise UserError if these weights are not those expected, or one is no number."""
    for name in sorted(weights.keys() | expected.keys()):
        found, wanted = (_describe(tensors.get(name)) for tensors in (weights, expected))
        if found != wanted:
            raise UserError(f"{path}: {name}: {found} found, {wanted} expected by {CONFIG}")
        if not weights[name].isfinite().all():
            raise UserError(f"{path}: {name}: holds NaN or infinity")


def _describe(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"
