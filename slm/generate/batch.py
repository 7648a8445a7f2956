"""Texts that are written together, one token of each a step; they may come and go between steps.

All but the last token of a new text's prompt is worked on in one pass, which equal prompts share. Then each
step works on the newest token of every text: keys and values of the others are in a cache.

Shapes: P prompts, B texts, T tokens in the longest of them, V = vocab_size.
Write text with a trained model, many texts at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from slm.core.progress import Progress
from slm.generate.params import DrawParams, SampleParams
from slm.generate.sampling import draw
from slm.model.attention import Cache
from slm.model.gpt import GPT

ENDED = 1 / 4  # the share of ended texts at which they leave: the cache of the others is copied then


@dataclass(eq=False)
class Text:
    """A text that is being written: how, and how far it is."""

    prompt: tuple[int, ...]  # token ids; the text's beginning, which <|endoftext|> precedes
    params: DrawParams
    random: np.random.Generator
    n_alternatives: int | None = None  # likeliest tokens to tell of at each step; None: no probabilities
    n_written: int = 0
    ended: bool = False  # by the model, by its length, or by whoever sets this

    @property
    def length(self) -> int:
        """Tokens so far, with the one that precedes it."""
        return 1 + len(self.prompt) + self.n_written


class Written(NamedTuple):
    """A token that a step wrote, with natural logarithms of the model's own probabilities if asked for."""

    text: Text
    id: int
    logprob: float | None
    alternatives: list[tuple[int, float]]  # the likeliest tokens, from the first on


class Batch:
    """Texts that are being written. The model's mode should be `eval`."""

    def __init__(self, model: GPT, end_of_text: int):
        self.model, self.end_of_text = model, end_of_text
        self.texts: list[Text] = []  # among them some that have ended
        self._ids: Tensor  # (B, T), padded on the left; the cache has seen all but the last of each row
        self._cache: Cache

    @property
    def is_over(self) -> bool:
        """Whether no text is on its way."""
        return all(text.ended for text in self.texts)

    @torch.inference_mode()
    def join(self, texts: list[Text]) -> None:
        """Begin texts; the others go on beside them."""
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(t.prompt for t in texts))}
        ids, padding = _pad([[self.end_of_text, *prompt] for prompt in numbers], self.end_of_text)
        ids, padding = ids.to(self.model.device), padding.to(self.model.device)
        cache = self._read(ids[:, :-1], padding)
        shared = torch.tensor([numbers[text.prompt] for text in texts], device=self.model.device)
        ids = ids[shared]
        cache.rows(shared)
        self._let_go()
        if self.texts:
            longest = max(ids.size(1), self._ids.size(1))
            ids = torch.cat([_widen(part, longest, self.end_of_text) for part in (self._ids, ids)])
            self._cache.add(cache)
            cache = self._cache
        self.texts, self._ids, self._cache = self.texts + texts, ids, cache

    @torch.inference_mode()
    def step(self) -> list[Written]:
        """Write the next token of each text that goes on. Raises UserError if the logits are no numbers."""
        self._let_go()
        if not self.texts:
            return []
        logits = self._next_logits()  # (B, V)
        new = self._draw(logits)  # (B,)
        self._ids = torch.cat([self._ids, new[:, None]], dim=1)
        written = []
        for row, (text, token) in enumerate(zip(self.texts, new.tolist(), strict=True)):
            if text.ended:
                continue
            text.n_written += 1
            text.ended = token == self.end_of_text or text.n_written == text.params.max_new_tokens
            written.append(Written(text, token, *_told(logits[row], token, text.n_alternatives)))
        return written

    def _draw(self, logits: Tensor) -> Tensor:
        """The next token (B,) of each text, by its own params."""
        uniform = [0.0 if text.ended else text.random.random(dtype=np.float32) for text in self.texts]
        uniform = torch.tensor(uniform, device=logits.device)
        rows: dict[tuple[float | None, ...], list[int]] = {}  # those that are drawn alike
        for row, text in enumerate(self.texts):
            rows.setdefault(text.params.shape, []).append(row)
        if len(rows) == 1:
            return draw(logits, self._ids, self.texts[0].params, uniform)
        new = torch.empty(len(self.texts), dtype=torch.long, device=logits.device)
        for alike in rows.values():
            new[alike] = draw(logits[alike], self._ids[alike], self.texts[alike[0]].params, uniform[alike])
        return new

    def _next_logits(self) -> Tensor:
        """Logits (B, V) after the newest tokens.

        A classic model that has used up its positions sees each row's last block_size tokens afresh, at new
        positions, which is slow. A modern one goes on for ever: it looks back at most block_size tokens.
        """
        params = self.model.params
        if params.architecture == "classic" and self._cache.seen == params.block_size:
            n_out = self._ids.size(1) - params.block_size
            lengths = torch.tensor([text.length for text in self.texts], device=self._ids.device)
            padding = (params.block_size - lengths).clamp(min=0)
            self._cache = Cache(params, padding, self.model.head_weight.dtype)
            return self.model(self._ids[:, n_out:], last=1, cache=self._cache)[:, -1]
        return self.model(self._ids[:, -1:], last=1, cache=self._cache)[:, -1]

    def _read(self, ids: Tensor, padding: Tensor) -> Cache:
        """The cache that saw texts (P, T) with `padding` (P,) on their left."""
        params = self.model.params
        if params.architecture == "classic":  # which has no positions for more
            n_out = max(0, ids.size(1) - params.block_size)
            ids, padding = ids[:, n_out:], (padding - n_out).clamp(min=0)
        cache = Cache(params, padding, self.model.head_weight.dtype)
        if ids.size(1):
            self.model(ids, last=1, cache=cache)
        return cache

    def _let_go(self) -> None:
        """Let texts that have ended leave, once they are a good part of all."""
        going_on = [row for row, text in enumerate(self.texts) if not text.ended]
        if len(self.texts) - len(going_on) < max(ENDED * len(self.texts), 1):
            return
        self.texts = [self.texts[row] for row in going_on]
        if self.texts:
            kept = torch.tensor(going_on, device=self._ids.device)
            self._cache.rows(kept)
            self._ids = self._ids[kept, -max(text.length for text in self.texts) :]


def _told(logits: Tensor, token: int, n: int | None) -> tuple[float | None, list[tuple[int, float]]]:
    """The logarithm of the token's probability under logits (V,), and the n likeliest tokens with theirs."""
    if n is None:
        return None, []
    logprobs = logits.float().log_softmax(-1)
    likeliest = logprobs.topk(min(n, len(logprobs)))
    alternatives = list(zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True))
    return logprobs[token].item(), alternatives


def _pad(texts: list[list[int]], filler: int) -> tuple[Tensor, Tensor]:
    """Texts of any lengths as one tensor (P, T), and how much each is filled up on its left (P,)."""
    longest = max(map(len, texts))
    padding = [longest - len(text) for text in texts]
    padded = [[filler] * n + text for n, text in zip(padding, texts, strict=True)]
    return torch.tensor(padded), torch.tensor(padding)


def _widen(ids: Tensor, longest: int, filler: int) -> Tensor:
    """Token ids (B, T) filled up on their left to so many a row."""
    return torch.nn.functional.pad(ids, (longest - ids.size(1), 0), value=filler)


MAX_TEXTS = 64  # written at once, so that memory is bounded


class Token(NamedTuple):
    """What a step wrote in one text: sample number `sample` of prompt number `prompt`, both from 0 on."""

    prompt: int
    sample: int
    id: int


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
    with `end_of_text` or after `max_new_tokens`. MAX_TEXTS are written at once, by prompt and number. The
    model's mode should be `eval`. Raises UserError if its logits are no numbers.

    Draws depend on the prompt, the seed and the number of the sample alone: not on other prompts, nor on
    torch's global state. Only the last bits of the logits may differ with the texts that share a pass.
    """
    places = product(range(len(prompts)), range(params.num_samples))
    while some := list(islice(places, MAX_TEXTS)):
        texts = {
            Text(tuple(prompts[prompt]), params, new_random(params.seed, sample)): (prompt, sample)
            for prompt, sample in some
        }
        batch = Batch(model, end_of_text)
        batch.join(list(texts))
        while not batch.is_over:
            for written in batch.step():
                yield Token(*texts[written.text], written.id)


def new_random(seed: int, sample: int) -> np.random.Generator:
    """What the draws of a sample follow; on the CPU, for every device."""
    return np.random.default_rng([seed, sample])
