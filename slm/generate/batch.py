"""Continuous batching: sequences join and leave between steps, each step adds one token to each.

When sequences are added, all but the last token of each distinct prompt is processed in one pass. Each step
then processes the newest token of every sequence; earlier keys and values are in a cache.

Shapes: P distinct prompts, B sequences, T tokens in the longest of them, V = vocab_size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from slm.core.progress import Progress
from slm.generate.params import GenerationParams, SampleParams
from slm.generate.sampling import sample_next
from slm.model.gpt import GPT
from slm.model.layers import KVCache

# `stream` bounds memory by this many sequences per batch.
MAX_SEQUENCES = 64
# Finished sequences are evicted once they are this fraction: each eviction copies the cache of the rest.
EVICTION_FRACTION = 1 / 4


@dataclass(eq=False)
class Sequence:
    """A sequence in generation: its prompt, its parameters and its progress."""

    # Token ids, without the <|endoftext|> that precedes them.
    prompt: tuple[int, ...]
    params: GenerationParams
    rng: np.random.Generator
    # Number of most likely tokens to return with each step; None: no log probabilities at all.
    n_top_logprobs: int | None = None
    n_generated: int = 0
    # Set by end of text, by max_new_tokens, or by the caller to abort.
    finished: bool = False

    @property
    def length(self) -> int:
        """Return the number of tokens so far, with the <|endoftext|> before the prompt."""
        return 1 + len(self.prompt) + self.n_generated


class SampledToken(NamedTuple):
    """A token added by a step, with log probabilities (natural) under the unmodified distribution."""

    sequence: Sequence
    id: int
    logprob: float | None
    # The most likely tokens, in descending order.
    top_logprobs: list[tuple[int, float]]


class Batch:
    """The sequences that are generated together. The model must be in `eval` mode."""

    def __init__(self, model: GPT, end_of_text: int):
        self.model, self.end_of_text = model, end_of_text
        # Includes finished sequences that are not evicted yet.
        self.sequences: list[Sequence] = []
        # (B, T), padded on the left; the cache holds all but the last token of each row.
        self._ids: Tensor
        self._cache: KVCache

    @property
    def is_finished(self) -> bool:
        """Return whether all sequences are finished."""
        return all(sequence.finished for sequence in self.sequences)

    @torch.inference_mode()
    def add(self, sequences: list[Sequence]) -> None:
        """Add sequences to the batch."""
        # Process each distinct prompt once, then copy its cache for every sequence that has it.
        row_of = {prompt: row for row, prompt in enumerate(dict.fromkeys(s.prompt for s in sequences))}
        ids, padding = _pad([[self.end_of_text, *prompt] for prompt in row_of], self.end_of_text)
        ids, padding = ids.to(self.model.device), padding.to(self.model.device)
        cache = self._prefill(ids[:, :-1], padding)
        rows = torch.tensor([row_of[sequence.prompt] for sequence in sequences], device=self.model.device)
        ids = ids[rows]
        cache.select(rows)

        # Append them to the sequences that are already here.
        self._evict_finished()
        if self.sequences:
            longest = max(ids.size(1), self._ids.size(1))
            ids = torch.cat([_pad_left(part, longest, self.end_of_text) for part in (self._ids, ids)])
            self._cache.append(cache)
            cache = self._cache
        self.sequences, self._ids, self._cache = self.sequences + sequences, ids, cache

    @torch.inference_mode()
    def step(self) -> list[SampledToken]:
        """Add a token to each unfinished sequence. Raises UserError if the logits contain NaN or Inf."""
        self._evict_finished()
        if not self.sequences:
            return []
        logits = self._next_logits()  # (B, V)
        new = self._sample(logits)  # (B,)
        self._ids = torch.cat([self._ids, new[:, None]], dim=1)
        sampled = []
        for row, (sequence, token) in enumerate(zip(self.sequences, new.tolist(), strict=True)):
            if sequence.finished:
                continue
            sequence.n_generated += 1
            is_full = sequence.n_generated == sequence.params.max_new_tokens
            sequence.finished = token == self.end_of_text or is_full
            sampled.append(
                SampledToken(sequence, token, *_logprobs(logits[row], token, sequence.n_top_logprobs))
            )
        return sampled

    def _sample(self, logits: Tensor) -> Tensor:
        """Return the next token (B,) of each sequence, by its own parameters and random numbers."""
        numbers = [0.0 if s.finished else s.rng.random(dtype=np.float32) for s in self.sequences]
        uniform = torch.tensor(numbers, device=logits.device)
        # Sequences whose parameters shape the distribution alike are sampled in one call.
        groups: dict[tuple[float | None, ...], list[int]] = {}
        for row, sequence in enumerate(self.sequences):
            groups.setdefault(sequence.params.distribution_key, []).append(row)
        if len(groups) == 1:
            return sample_next(logits, self._ids, self.sequences[0].params, uniform)
        new = torch.empty(len(self.sequences), dtype=torch.long, device=logits.device)
        for rows in groups.values():
            params = self.sequences[rows[0]].params
            new[rows] = sample_next(logits[rows], self._ids[rows], params, uniform[rows])
        return new

    def _next_logits(self) -> Tensor:
        """Return the logits (B, V) after the newest tokens.

        A gpt2 model that has used all its positions processes the last block_size tokens of each row again
        at new positions, which is slow. A rope model has no limit: each layer attends to at most block_size
        tokens.
        """
        params = self.model.params
        if params.architecture == "gpt2" and self._cache.length == params.block_size:
            n_dropped = self._ids.size(1) - params.block_size
            lengths = torch.tensor([s.length for s in self.sequences], device=self._ids.device)
            padding = (params.block_size - lengths).clamp(min=0)
            self._cache = KVCache(params, padding, self.model.head_weight.dtype)
            unseen = self._ids[:, n_dropped:]
        else:
            unseen = self._ids[:, -1:]
        logits: Tensor = self.model(unseen, last=1, cache=self._cache)
        return logits[:, -1]

    def _prefill(self, ids: Tensor, padding: Tensor) -> KVCache:
        """Return a cache of prompts (P, T) with `padding` (P,) tokens on their left."""
        params = self.model.params
        if params.architecture == "gpt2":
            # It has no positions for more than block_size tokens.
            n_dropped = max(0, ids.size(1) - params.block_size)
            ids, padding = ids[:, n_dropped:], (padding - n_dropped).clamp(min=0)
        cache = KVCache(params, padding, self.model.head_weight.dtype)
        if ids.size(1):
            self.model(ids, last=1, cache=cache)
        return cache

    def _evict_finished(self) -> None:
        """Remove finished sequences once they are EVICTION_FRACTION of all."""
        unfinished = [row for row, sequence in enumerate(self.sequences) if not sequence.finished]
        n_finished = len(self.sequences) - len(unfinished)
        if n_finished < max(EVICTION_FRACTION * len(self.sequences), 1):
            return
        self.sequences = [self.sequences[row] for row in unfinished]
        if self.sequences:
            rows = torch.tensor(unfinished, device=self._ids.device)
            self._cache.select(rows)
            self._ids = self._ids[rows, -max(sequence.length for sequence in self.sequences) :]


class StreamedToken(NamedTuple):
    """A token of sample number `sample` of prompt number `prompt`, both counted from 0."""

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
    """Return the new token ids of `num_samples` continuations of each prompt, sampled as by `stream`.

    `end_of_text` is left out, so a continuation of `max_new_tokens` tokens is one that the model did not end.
    """
    samples: list[list[list[int]]] = [[[] for _ in range(params.num_samples)] for _ in prompts]
    for token in stream(model, prompts, params, end_of_text):
        if token.id != end_of_text:
            samples[token.prompt][token.sample].append(token.id)
        if progress:
            progress.advance(1)
    return samples


def stream(
    model: GPT, prompts: list[list[int]], params: SampleParams, end_of_text: int
) -> Iterator[StreamedToken]:
    """Continue the token ids of each prompt `num_samples` times; yield each token as it is sampled.

    A prompt starts a document: it follows `end_of_text`, as every document does in training. A continuation
    ends with `end_of_text` or after `max_new_tokens`. MAX_SEQUENCES are generated at a time, by prompt
    and sample. The model must be in `eval` mode. Raises UserError if its logits contain NaN or Inf.

    A sample depends on the prompt, the seed and its own number only: not on other prompts, nor on torch's
    global random state. Which sequences share a batch changes at most the last bits of the logits.
    """
    pairs = product(range(len(prompts)), range(params.num_samples))
    while chunk := list(islice(pairs, MAX_SEQUENCES)):
        numbers = {
            Sequence(tuple(prompts[prompt]), params, new_rng(params.seed, sample)): (prompt, sample)
            for prompt, sample in chunk
        }
        batch = Batch(model, end_of_text)
        batch.add(list(numbers))
        while not batch.is_finished:
            for token in batch.step():
                yield StreamedToken(*numbers[token.sequence], token.id)


def new_rng(seed: int, sample: int) -> np.random.Generator:
    """Return the random generator of a sample. It runs on the CPU, whatever device the model is on."""
    return np.random.default_rng([seed, sample])


def _logprobs(logits: Tensor, token: int, n_top: int | None) -> tuple[float | None, list[tuple[int, float]]]:
    """Return the log probability of a token under logits (V,), and the n most likely tokens with theirs."""
    if n_top is None:
        return None, []
    logprobs = logits.float().log_softmax(-1)
    top = logprobs.topk(min(n_top, len(logprobs)))
    return logprobs[token].item(), list(zip(top.indices.tolist(), top.values.tolist(), strict=True))


def _pad(prompts: list[list[int]], filler: int) -> tuple[Tensor, Tensor]:
    """Return prompts of any lengths as one tensor (P, T), and the padding on the left of each (P,)."""
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    padded = [[filler] * n + prompt for n, prompt in zip(padding, prompts, strict=True)]
    return torch.tensor(padded), torch.tensor(padding)


def _pad_left(ids: Tensor, length: int, filler: int) -> Tensor:
    """Pad token ids (B, T) on the left to (B, length)."""
    return torch.nn.functional.pad(ids, (length - ids.size(1), 0), value=filler)
