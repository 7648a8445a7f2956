"""Write text with a trained model, many texts at once, one token of each after the other.

A prompt is worked on in one pass, which all its continuations share. Then each step works on the newest
tokens alone: keys and values of the others are in a cache.

Shapes: P prompts, B rows (texts that are being written), T tokens in each so far, V = vocab_size.
"""

from collections.abc import Iterator
from itertools import islice, product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from slm.model.cache import Cache
from slm.model.gpt import GPT
from slm.progress import Progress
from slm.text.params import SampleParams
from slm.text.sampling import draw

MAX_ROWS = 64  # written at once, so that memory is bounded
ENDED = 1 / 4  # the share of ended rows at which they leave: the cache of the others is copied then


class Token(NamedTuple):
    """What a step wrote in one text: sample number `sample` of prompt number `prompt`, both from 0 on."""

    prompt: int
    sample: int
    id: int


class Row(NamedTuple):
    """A text that is being written."""

    prompt: int
    sample: int
    random: np.random.Generator


def generate(
    model: GPT,
    prompts: list[list[int]],
    params: SampleParams,
    end_of_text: int,
    progress: Progress | None = None,
) -> list[list[list[int]]]:
    """The new token ids of each of `num_samples` continuations of each prompt, as `stream` writes them.

    `end_of_text` is left out, so a continuation of `max_new_tokens` is one that the model has not ended.
    """
    texts: list[list[list[int]]] = [[[] for _ in range(params.num_samples)] for _ in prompts]
    for token in stream(model, prompts, params, end_of_text):
        if token.id != end_of_text:
            texts[token.prompt][token.sample].append(token.id)
        if progress:
            progress.advance(1)
    return texts


def stream(model: GPT, prompts: list[list[int]], params: SampleParams, end_of_text: int) -> Iterator[Token]:
    """Continue the token ids of each prompt `num_samples` times; give each new token as soon as it is there.

    A prompt begins a text: it follows `end_of_text`, as every text does in training. A continuation ends
    with `end_of_text` or after `max_new_tokens`. MAX_ROWS are written at once, by prompt and number. The
    model's mode should be `eval`. Raises UserError if its logits are no numbers.

    Draws depend on the prompt, the seed and the number of the sample alone: not on other prompts, nor on
    torch's global state. Only the last bits of the logits may differ with the rows that share a pass.
    """
    rows = (
        Row(prompt, sample, np.random.default_rng([params.seed, sample]))  # on the CPU, for every device
        for prompt, sample in product(range(len(prompts)), range(params.num_samples))
    )
    while batch := list(islice(rows, MAX_ROWS)):
        yield from _write(model, prompts, batch, params, end_of_text)


@torch.inference_mode()
def _write(
    model: GPT, prompts: list[list[int]], batch: list[Row], params: SampleParams, end_of_text: int
) -> Iterator[Token]:
    """Write the rows of a batch, all at once."""
    numbers = sorted({row.prompt for row in batch})
    texts, padding = _pad([[end_of_text, *prompts[n]] for n in numbers], end_of_text, model.device)
    logits, cache = _first_pass(model, texts, padding)
    shared = torch.tensor([numbers.index(row.prompt) for row in batch], device=model.device)
    logits, texts = logits[shared], texts[shared]
    cache.rows(shared)

    rows: list[Row | None] = list(batch)  # None where the text has ended
    for step in range(params.max_new_tokens):
        if step > 0:
            logits, cache = _next_pass(model, texts, cache)
        uniform = torch.tensor([row.random.random(dtype=np.float32) if row else 0.0 for row in rows])
        new = draw(logits, texts, params, uniform.to(model.device))  # (B,)
        for number, token in enumerate(new.tolist()):
            if row := rows[number]:
                yield Token(row.prompt, row.sample, token)
                rows[number] = row if token != end_of_text else None
        texts = torch.cat([texts, new[:, None]], dim=1)  # (B, T)
        n_ended = rows.count(None)
        if n_ended == len(rows):
            return
        if n_ended >= ENDED * len(rows):
            going_on = torch.tensor([n for n, row in enumerate(rows) if row], device=model.device)
            rows = [row for row in rows if row]
            texts = texts[going_on]
            cache.rows(going_on)


def _first_pass(model: GPT, texts: Tensor, padding: Tensor) -> tuple[Tensor, Cache]:
    """Logits (P, V) after texts (P, T) with `padding` (P,) on their left, and the cache that saw them."""
    if model.params.architecture == "classic":  # which has no positions for more
        n_cut = max(0, texts.size(1) - model.params.block_size)
        texts, padding = texts[:, n_cut:], (padding - n_cut).clamp(min=0)
    cache = Cache(model.params, padding, dtype=model.head_weight.dtype)
    return model(texts, last=1, cache=cache)[:, -1], cache


def _next_pass(model: GPT, texts: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
    """Logits (B, V) after texts (B, T) of which the cache has seen all but the last token.

    A classic model that has used up its positions sees each row's last block_size tokens afresh, at new
    positions, which is slow. A modern one goes on for ever: it looks back at most block_size tokens.
    """
    if model.params.architecture == "classic" and cache.longest == model.params.block_size:
        return _first_pass(model, texts[:, -cache.seen - 1 :], cache.padding)
    return model(texts[:, -1:], last=1, cache=cache)[:, -1], cache


def _pad(texts: list[list[int]], filler: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Texts of any lengths as one tensor (P, T), and how much each is filled up on its left (P,)."""
    longest = max(map(len, texts))
    padding = [longest - len(text) for text in texts]
    padded = [[filler] * n + text for n, text in zip(padding, texts, strict=True)]
    return torch.tensor(padded, device=device), torch.tensor(padding, device=device)
