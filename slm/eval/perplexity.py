"""How well a model predicts a text: the loss of each of its tokens, and what that adds up to.

Shapes: N tokens in the text, B windows at a time, L tokens in each.
"""

import math
import sys

import numpy as np
import torch
from torch import Tensor

from slm.core.errors import UserError
from slm.core.progress import Progress
from slm.model.gpt import GPT, cross_entropy

MAX_LOSS = math.log(sys.float_info.max)  # nats


@torch.inference_mode()
def token_losses(
    model: GPT,
    tokens: np.ndarray,
    end_of_text: int,
    stride: int | None,
    batch_size: int,
    context: int | None = None,
) -> np.ndarray:
    """The negative log-likelihood in nats of every token: (N,) float32. The model's mode should be `eval`.

    A window of `context` tokens (at most and by default block_size) slides over the text by `stride` (by
    default a quarter of it), and only those tokens are predicted in it that are new to it. So each token is
    predicted once, from more than context − stride tokens where there are so many. The first one follows
    `end_of_text`, the token that ends the text before it. Raises UserError if the stride exceeds the context.
    """
    context = context or model.params.block_size
    stride = stride or max(1, context // 4)
    if stride > context:
        raise UserError(f"evaluate.stride: must be at most the context of {context} tokens, got {stride}")

    length = min(context, len(tokens))
    starts = np.minimum(np.arange(0, len(tokens) - length + stride, stride), len(tokens) - length)
    losses = np.empty(len(tokens), dtype=np.float32)
    done = 0
    with Progress("evaluating", len(tokens), "tok") as progress:
        # The first window is on its own: all of its tokens are new.
        for batch in np.split(starts, range(1, len(starts), batch_size)):
            n_new = stride if done else length
            inputs, targets = windows(tokens, batch, length, end_of_text, model.device)
            logits = model(inputs, last=n_new)  # (B, n_new, V)
            found = cross_entropy(logits, targets[:, -n_new:], reduction="none").cpu().numpy()
            for row, start in zip(found.reshape(len(batch), n_new), batch, strict=True):
                end = start + length
                losses[done:end] = row[n_new - (end - done) :]  # the last window may have fewer new tokens
                progress.advance(int(end) - done)
                done = int(end)
    return losses


def windows(
    tokens: np.ndarray, starts: np.ndarray, length: int, end_of_text: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Inputs and targets (B, L) of windows whose first targets are at `starts`; an input is the token before.

    Before the text's first token lies `end_of_text`.
    """
    positions = starts[:, None] + np.arange(length)
    inputs, targets = tokens[positions - 1].astype(np.int64), tokens[positions].astype(np.int64)
    inputs[positions == 0] = end_of_text
    return torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device)


def summary(losses: np.ndarray, n_bytes: int) -> dict[str, float]:
    """What the losses (nats, one a token) of a text of `n_bytes` bytes of UTF-8 add up to.

    `val_loss` and `perplexity` are means over tokens, so they compare only within one tokenizer.
    `bits_per_byte` is the sum of all losses in bits over the bytes of all documents: the same whatever the
    tokens are. The tokens that end the documents must be predicted too, or what is left unsaid would be free:
    their losses count, though they stand for no bytes. Raises UserError if the mean loss is no number, or so
    large that the perplexity is none.
    """
    total = float(losses.sum(dtype=np.float64))
    mean = total / len(losses)
    return {
        "val_loss": mean,  # nats a token
        "perplexity": perplexity(mean),
        "bits_per_byte": total / math.log(2) / n_bytes,
        "tokens": len(losses),
    }


def perplexity(mean_loss: float, unit: str = "token") -> float:
    """exp of a mean loss in nats (Jelinek et al. 1977). Raises UserError if there is no such number."""
    if not mean_loss < MAX_LOSS:
        raise UserError(f"the model's mean loss is {mean_loss:.2g} nats a {unit}; train it again")
    return math.exp(mean_loss)
