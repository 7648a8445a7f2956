"""Write text with a trained model, one token after the other.

Shapes: B continuations that go on, T tokens in each, V = vocab_size.
"""

import torch
from torch import Tensor

from slm.model.gpt import GPT
from slm.params import UserError
from slm.text.params import SampleParams


@torch.inference_mode()
def generate(model: GPT, prompt: list[int], params: SampleParams, end_of_text: int) -> list[list[int]]:
    """Continue the token ids of a prompt `num_samples` times; give the new ids of each.

    The prompt begins a text: it follows `end_of_text`, as every text does in training. A continuation ends
    where the model writes `end_of_text` (which is left out) or after `max_new_tokens`. Once it is longer than
    block_size, the model sees its last block_size tokens. The model's mode should be `eval`.

    Draws depend on the prompt and the seed alone: not on other prompts, nor on torch's global state.
    """
    draws = torch.Generator().manual_seed(params.seed)  # on the CPU: the same draws for every device
    ids = torch.tensor([end_of_text, *prompt]).repeat(params.num_samples, 1)  # (B, T)
    continuations: list[list[int]] = [[] for _ in range(params.num_samples)]
    going_on = continuations  # those of the rows of `ids`
    for _ in range(params.max_new_tokens):
        window = ids[:, -model.params.block_size :].to(model.device)
        logits = model(window, last=1)[:, -1].cpu()  # (B, V)
        probs = next_token_probs(logits, params.temperature, params.top_k)
        if probs.isnan().any():
            raise UserError("the model's logits are no numbers; train it again")
        new = torch.multinomial(probs, num_samples=1, generator=draws)  # (B, 1)

        goes_on = new[:, 0] != end_of_text
        ids = torch.cat([ids, new], dim=1)[goes_on]
        going_on = [text for text, goes in zip(going_on, goes_on.tolist(), strict=True) if goes]
        for text, token in zip(going_on, ids[:, -1].tolist(), strict=True):
            text.append(token)
        if not going_on:
            break
    return continuations


def next_token_probs(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """Probabilities (B, V) to draw the next token from, given the model's logits (B, V).

    A temperature below 1 sharpens the distribution; at 0 the likeliest token has it all. With `top_k`, only
    so many of the likeliest tokens keep a share (Fan et al. 2018).
    """
    if temperature == 0:
        top_k, temperature = 1, 1.0
    values, tokens = logits.double().topk(min(top_k or logits.size(-1), logits.size(-1)))
    below = values - values[:, :1]  # at most 0, so that a tiny temperature makes no infinity
    shares = torch.softmax(below / temperature, dim=-1)
    return torch.zeros_like(logits, dtype=torch.float64).scatter(-1, tokens, shares)
