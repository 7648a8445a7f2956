"""Whether a training fits into memory, reckoned before anything of it is made."""

import psutil
import torch

from slm.core.config import PARAMS_FILE
from slm.core.errors import UserError
from slm.model.device import setup_torch
from slm.model.gpt import gpt_shapes, n_params
from slm.model.params import ModelParams
from slm.train.params import TrainParams

GB = 1e9
BYTES_A_PARAMETER = 4 * 4  # float32: weight, gradient, a moment (AdamW has two), the best weight so far


def check_memory(model_params: ModelParams, params: TrainParams, vocab_size: int) -> None:
    """Raise UserError if what training takes at the very least is more than the device has.

    Counted are weights, optimizer, the logits of one forward pass with their gradient, and the token ids of
    one step. Activations come on top: a training that passes may still be too large.
    """
    model = gpt_shapes(model_params, vocab_size)
    tokens = params.batch_size * model_params.block_size
    parts = {
        "model.n_layer or model.n_embd": BYTES_A_PARAMETER * n_params(model),
        "train.batch_size, model.block_size or tokenizer.vocab_size": tokens * vocab_size * 4 * 2,
        "train.grad_accum_steps, train.batch_size or model.block_size": (
            params.grad_accum_steps * tokens * 8 * 2  # ids in, ids expected: 64 bits each
        ),
    }
    device = setup_torch(params.deterministic)
    needed, there = sum(parts.values()), _memory_of(device)
    if needed > there:
        raise UserError(
            f"{PARAMS_FILE}: training needs more than {needed / GB:,.1f} GB of memory, {device} has "
            f"{there / GB:,.1f} GB: lower {max(parts, key=lambda part: parts[part])}"
        )


def _memory_of(device: torch.device) -> int:
    """All of its memory in bytes, whether or not another program has some of it; of `mps`, the machine's."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return psutil.virtual_memory().total
