"""GPT: a Transformer that predicts each token from those before it, in one of two architectures.

Shapes: B sequences, T tokens in each, V = vocab_size.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from slm.model.classic import ClassicGPT
from slm.model.modern import ModernGPT
from slm.model.params import ModelParams

GPT = ClassicGPT | ModernGPT
IGNORED = -1  # a target that counts for nothing


def new_gpt(params: ModelParams, vocab_size: int) -> GPT:
    """A new model, its weights drawn from torch's random numbers."""
    return (ModernGPT if params.architecture == "modern" else ClassicGPT)(params, vocab_size)


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
