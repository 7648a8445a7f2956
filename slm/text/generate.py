"""Write text with a trained model, many texts at once."""

from collections.abc import Iterator
from itertools import islice, product
from typing import NamedTuple

import numpy as np

from slm.model.gpt import GPT
from slm.progress import Progress
from slm.text.batch import Batch, Text
from slm.text.params import SampleParams

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
