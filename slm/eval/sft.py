"""Ask a model what it was not trained on: its answers, and the loss of those that are wanted.

Shapes: N conversations, T = block_size tokens.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from slm.core.progress import Progress
from slm.generate.batch import generate
from slm.generate.params import DEFAULTS, SampleParams
from slm.model.gpt import GPT, IGNORED, cross_entropy
from slm.sft.chat import prompt
from slm.sft.conversations import Conversation, Turn
from slm.tokenizer.tokenizer import END_OF_TEXT, decode, encode


class Answered(NamedTuple):
    """What a model answered to a turn of a conversation."""

    before: Conversation
    turn: Turn
    text: str


def sampling(block_size: int, temperature: float, seed: int) -> SampleParams:
    """How an answer is written: one, of a block at most, drawn from all tokens."""
    own = {"max_new_tokens": block_size, "temperature": temperature, "seed": seed}
    return SampleParams(prompts=[""], num_samples=1, **DEFAULTS | own)


def answer_each(
    model: GPT, tokenizer: Tokenizer, talks: Iterable[Conversation], params: SampleParams
) -> list[Answered]:
    """The answers to all turns that fit into a block, each as if those before had been answered as wanted."""
    asked = []
    for talk in talks:
        for number, turn in enumerate(talk):
            text = prompt(talk[:number], turn.request)
            if len(encode(tokenizer, text + turn.answer)) < model.params.block_size:
                asked.append((talk[:number], turn, text))
    with Progress("asking", None, "tok") as progress:
        texts = answers(model, tokenizer, [text for *_, text in asked], params, progress)
    return [Answered(before, turn, text) for (before, turn, _), text in zip(asked, texts, strict=True)]


def talk_over(
    model: GPT, tokenizer: Tokenizer, requests: Iterable[str], params: SampleParams
) -> Conversation:
    """A conversation in which the model goes on from its own answers."""
    turns: Conversation = []
    for request in requests:
        [text] = answers(model, tokenizer, [prompt(turns, request)], params)
        turns.append(Turn(request, text))
    return turns


def answers(
    model: GPT,
    tokenizer: Tokenizer,
    prompts: list[str],
    params: SampleParams,
    progress: Progress | None = None,
) -> list[str]:
    """What the model answers to each prompt."""
    ids = [encode(tokenizer, text) for text in prompts]
    written = generate(model, ids, params, tokenizer.token_to_id(END_OF_TEXT), progress)
    return [decode(tokenizer, new).strip() for [new] in written]


@torch.inference_mode()
def answer_loss(model: GPT, inputs: Tensor, targets: Tensor, batch_size: int) -> float:
    """Mean loss in nats over the targets (N, T) that are not IGNORED. The model's mode should be `eval`."""
    nats = 0.0
    for x, y in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
        logits = model(x.long().to(model.device))
        nats += float(cross_entropy(logits, y.long().to(model.device), reduction="sum"))
    return nats / int((targets != IGNORED).sum())
