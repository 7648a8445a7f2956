"""How well a model predicts a text: the loss of each of its tokens, and what that adds up to.

Shapes: N tokens in the text, B windows at a time, L tokens in each.
"""

import math
import sys

import numpy as np
import torch

from slm.model.gpt import GPT, cross_entropy
from slm.params import UserError
from slm.progress import Progress

MAX_LOSS = math.log(sys.float_info.max)  # nats a token


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
        raise UserError(
            f"evaluate.stride: {stride} is not allowed; allowed: at most the context of {context}"
        )

    length = min(context, len(tokens))
    starts = np.minimum(np.arange(0, len(tokens) - length + stride, stride), len(tokens) - length)
    losses = np.empty(len(tokens), dtype=np.float32)
    done = 0
    with Progress("evaluating", len(tokens), "tok") as progress:
        # The first window is on its own: all of its tokens are new.
        for batch in np.split(starts, range(1, len(starts), batch_size)):
            n_new = stride if done else length
            positions = batch[:, None] + np.arange(length)  # (B, L)
            targets = tokens[positions].astype(np.int64)
            inputs = tokens[positions - 1].astype(np.int64)
            inputs[positions == 0] = end_of_text
            logits = model(torch.from_numpy(inputs).to(model.device), last=n_new)  # (B, n_new, V)
            new_targets = torch.from_numpy(targets[:, -n_new:]).to(model.device)
            found = cross_entropy(logits, new_targets, reduction="none").view(len(batch), n_new).cpu().numpy()
            for row, start in zip(found, batch, strict=True):
                end = start + length
                losses[done:end] = row[n_new - (end - done) :]  # the last window may have fewer new tokens
                progress.advance(int(end) - done)
                done = int(end)
    return losses


def summary(losses: np.ndarray, n_bytes: int) -> dict[str, float]:
    """What the losses (nats, one a token) of a text of `n_bytes` bytes of UTF-8 add up to.

    `bits_per_byte` does not depend on the tokenizer. The tokens that end a text must be predicted too: their
    losses count, though they stand for no bytes. Raises UserError if the mean loss is no number, or so large
    that the perplexity is none.
    """
    total = float(losses.sum(dtype=np.float64))
    mean = total / len(losses)
    if not mean < MAX_LOSS:
        raise UserError(f"the model's mean loss is {mean:.2g} nats a token; train it again")
    return {
        "val_loss": mean,  # nats a token
        "perplexity": math.exp(mean),
        "bits_per_byte": total / math.log(2) / n_bytes,
        "tokens": len(losses),
    }
