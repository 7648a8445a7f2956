"""GPT: a Transformer that predicts each token from those before it, in one of two architectures.

Shapes: B sequences, T tokens in each, V = vocab_size.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from slm.model.classic import ClassicGPT
from slm.model.modern import ModernGPT
from slm.model.params import ModelParams

GPT = ClassicGPT | ModernGPT
IGNORED = -1  # a target that counts for nothing


def new_gpt(params: ModelParams, vocab_size: int) -> GPT:
    """A new model, its weights drawn from torch's random numbers."""
    return (ModernGPT if params.architecture == "modern" else ClassicGPT)(params, vocab_size)


def gpt_shapes(params: ModelParams, vocab_size: int) -> GPT:
    """A model without weights, on the meta device: only their names, shapes and types are there."""
    with torch.device("meta"), _NoInit():
        return new_gpt(params, vocab_size)


class _NoInit(TorchFunctionMode):
    """Skips torch.nn.init, which for weights that are not there imports torch's compiler: a second."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
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
