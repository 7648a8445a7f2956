"""Evaluate a fine-tuned model on held-out conversations: its answers, and the loss of the wanted answers.

Shapes: N conversations, T = block_size tokens.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from slm.core.progress import Progress
from slm.eval.constraints import satisfied_values
from slm.generate.batch import generate
from slm.generate.markdown import escape
from slm.generate.params import DEFAULTS, SampleParams
from slm.model.gpt import GPT
from slm.model.loss import IGNORE_INDEX
from slm.sft.conversations import Conversation, Turn, render
from slm.tokenizer.tokenizer import decode, encode, end_of_text_id


class Answer(NamedTuple):
    """A model's answer to a turn that follows `before`."""

    before: Conversation
    turn: Turn
    text: str


def sampling_params(block_size: int, temperature: float, seed: int) -> SampleParams:
    """Return params that sample one answer of at most `block_size` tokens."""
    changes = {"max_new_tokens": block_size, "temperature": temperature, "seed": seed}
    return SampleParams(prompts=[""], num_samples=1, **DEFAULTS | changes)


def answer_turns(
    model: GPT, tokenizer: Tokenizer, conversations: Iterable[Conversation], params: SampleParams
) -> list[Answer]:
    """Answer all turns that fit into the context, each after the wanted answers to the turns before it."""
    tasks = []
    for conversation in conversations:
        for number, turn in enumerate(conversation):
            text = render(conversation[:number], turn.prompt)
            if len(encode(tokenizer, text + turn.answer)) < model.params.block_size:
                tasks.append((conversation[:number], turn, text))
    with Progress("generating answers", None, "tok") as progress:
        texts = _generate_answers(model, tokenizer, [text for *_, text in tasks], params, progress)
    return [Answer(before, turn, text) for (before, turn, _), text in zip(tasks, texts, strict=True)]


def converse(model: GPT, tokenizer: Tokenizer, prompts: Iterable[str], params: SampleParams) -> Conversation:
    """Return a conversation in which each prompt follows the model's earlier answers."""
    turns: Conversation = []
    for prompt in prompts:
        [text] = _generate_answers(model, tokenizer, [render(turns, prompt)], params)
        turns.append(Turn(prompt, text))
    return turns


def _generate_answers(
    model: GPT,
    tokenizer: Tokenizer,
    texts: list[str],
    params: SampleParams,
    progress: Progress | None = None,
) -> list[str]:
    """Return one continuation of each text, without whitespace at its ends."""
    ids = [encode(tokenizer, text) for text in texts]
    generated = generate(model, ids, params, end_of_text_id(tokenizer), progress)
    return [decode(tokenizer, new_ids).strip() for [new_ids] in generated]


@torch.inference_mode()
def answer_loss(model: GPT, inputs: Tensor, targets: Tensor, batch_size: int) -> float:
    """Return the mean loss in nats over the targets (N, T) that are not IGNORE_INDEX.

    The model must be in evaluation mode.
    """
    nats = 0.0
    for x, y in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
        nats += float(model.loss(x.long().to(model.device), y.long().to(model.device)))
    return nats / int((targets != IGNORE_INDEX).sum())


def answers_markdown(answers: Iterable[Answer], conversations: Iterable[Conversation]) -> str:
    """Format answers and conversations as Markdown.

    Below each answer stand the constraints of its prompt and whether it satisfies them, or, where nothing
    can be checked, the wanted answer.
    """
    parts = ["# Prompts and answers\n\nThe prompts are held out: the model was not trained on them.\n"]
    for number, answer in enumerate(answers, start=1):
        text = _turn_markdown(answer.turn.prompt, answer.text)
        parts.append(f"\n## {number}\n\n{text}\n\n*{_verdict(answer)}*\n")
    for number, conversation in enumerate(conversations, start=1):
        turns = "\n\n".join(_turn_markdown(turn.prompt, turn.answer) for turn in conversation)
        parts.append(f"\n## Conversation {number}\n\n{turns}\n")
    return "".join(parts)


def _verdict(answer: Answer) -> str:
    """Return which constraints are satisfied, or the wanted answer if there are none."""
    if not answer.turn.constraints:
        return escape(" ".join(f"Expected: {answer.turn.answer}".split()))
    values = satisfied_values(answer.text)
    return escape(
        "; ".join(
            f"{'satisfied' if value in values[kind] else 'not satisfied'}: {kind}, {value}"
            for kind, value in answer.turn.constraints.items()
        )
    )


def _turn_markdown(prompt: str, answer: str) -> str:
    """Format a turn: the prompt as a quotation, then the answer."""
    quoted = "\n".join(f"> {escape(line)}  " for line in prompt.splitlines())
    return f"{quoted}\n\n" + "  \n".join(escape(line) for line in answer.splitlines())
