"""Loss of every token of a text, perplexity and bits per byte.

Shapes: N tokens in the text, B windows per batch, L tokens per window, V = vocab_size.
"""

import math
import sys

import numpy as np
import torch
from torch import Tensor

from slm.core.errors import UserError
from slm.core.progress import Progress
from slm.model.gpt import GPT

# The largest loss in nats whose exp is finite.
MAX_LOSS = math.log(sys.float_info.max)


@torch.inference_mode()
def token_losses(
    model: GPT,
    tokens: np.ndarray,
    end_of_text: int,
    stride: int | None,
    batch_size: int,
    context: int | None = None,
) -> np.ndarray:
    """Return the negative log-likelihood in nats of every token: (N,) float32.

    A window of `context` tokens (at most and by default block_size) slides over the text by `stride` tokens
    (by default a quarter of the context), and each window predicts only the tokens that earlier windows did
    not. So every token is predicted once, with more than context − stride tokens of context except at the
    start. The first token follows `end_of_text`, which ends the text before it. The model must be in `eval`
    mode. Raises UserError if the stride is larger than the context.
    """
    context = context or model.params.block_size
    stride = stride or max(1, context // 4)
    if stride > context:
        raise UserError(f"evaluate.stride: must be at most the context of {context} tokens, got {stride}")

    length = min(context, len(tokens))
    starts = np.minimum(np.arange(0, len(tokens) - length + stride, stride), len(tokens) - length)
    losses = np.empty(len(tokens), dtype=np.float32)
    n_done = 0
    with Progress("evaluating", len(tokens), "tok") as progress:
        # The first window is a batch of its own: all of its tokens are new.
        for batch in np.split(starts, range(1, len(starts), batch_size)):
            n_new = stride if n_done else length
            inputs, targets = windows(tokens, batch, length, end_of_text, model.device)
            nats = model.loss(inputs, targets[:, -n_new:], reduction="none").cpu().numpy()  # (B, n_new)
            for row, start in zip(nats, batch.tolist(), strict=True):
                end = start + length
                # The last window was moved back to fit, so it may hold fewer new tokens.
                losses[n_done:end] = row[n_new - (end - n_done) :]
                progress.advance(end - n_done)
                n_done = end
    return losses


def windows(
    tokens: np.ndarray, starts: np.ndarray, length: int, end_of_text: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return inputs and targets (B, L) of the windows whose first targets are at `starts`.

    Each input is the token before its target; before the first token of the text it is `end_of_text`.
    """
    positions = starts[:, None] + np.arange(length)
    inputs, targets = tokens[positions - 1].astype(np.int64), tokens[positions].astype(np.int64)
    inputs[positions == 0] = end_of_text
    return torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device)


def summarize_losses(losses: np.ndarray, n_bytes: int) -> dict[str, float]:
    """Return `val_loss` (nats per token), `perplexity` and `bits_per_byte` of losses (N,).

    Loss and perplexity are means over tokens, so they compare only between models of one tokenizer.
    Bits per byte is the sum of all losses over `n_bytes`, the UTF-8 bytes of the documents, whatever the
    tokenizer. It includes the losses of end-of-text tokens, which add no bytes: a model must also predict
    where a document ends. Raises UserError if the perplexity is not finite.
    """
    total = float(losses.sum(dtype=np.float64))
    mean = total / len(losses)
    return {
        "val_loss": mean,
        "perplexity": perplexity(mean),
        "bits_per_byte": total / math.log(2) / n_bytes,
    }


def perplexity(mean_loss: float, unit: str = "token") -> float:
    """Return exp of a mean loss in nats (Jelinek et al. 1977). Raises UserError if that is not finite."""
    if not mean_loss < MAX_LOSS:
        raise UserError(f"the model's mean loss is {mean_loss:.2g} nats per {unit}; train it again")
    return math.exp(mean_loss)
