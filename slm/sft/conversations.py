"""Conversations: their layout as one text, and the files that contain them.

Prompts are quoted as in mail, answers stand as they are:

    > Write a story about a frog who loses a drum.
    Once upon a time there was a little frog named Gus. …
    > Sum it up in one sentence.
    Gus lost a red drum, and Rosa found it.

A conversation follows `<|endoftext|>`, as every document does. Each answer ends with that token, too: a
fine-tuned model predicts it after the last word of an answer, although the text continues with the next
prompt. So a caller renders the conversation up to the end of a prompt, and lets the model generate until the
token.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from slm.core.errors import UserError
from slm.data.textfiles import read_objects, read_texts

EXPECTED = ".jsonl of objects with a `prompt` and an `answer`, or .txt in the layout of TinyStories-Instruct"
QUOTE = "> "
STORY = re.compile(r"^Story:[ \t]*\n", re.MULTILINE)


class Turn(NamedTuple):
    """A prompt, the wanted answer, and the constraints on an answer that can be checked (kind → value)."""

    prompt: str
    answer: str
    constraints: Mapping[str, str] = MappingProxyType({})


Conversation = list[Turn]


def render(turns: Iterable[Turn], prompt: str) -> str:
    """Return the text that the model continues: the turns so far and a new prompt."""
    return "".join(quoted + answer for quoted, answer in segments([*turns, Turn(prompt, "")]))


def n_dropped(turns: Sequence[Turn], prompt: str, n_tokens: Callable[[str], int], block_size: int) -> int:
    """Return how many of the first turns must be dropped so that the rest and the prompt fit the context."""

    def fits(first: int) -> bool:
        return n_tokens(render(turns[first:], prompt)) < block_size

    return bisect_left(range(len(turns)), True, key=fits)


def segments(turns: Iterable[Turn]) -> Iterator[tuple[str, str]]:
    """Yield the quoted prompt before each answer, and the answer. Concatenated they are the conversation.

    No token can reach across a boundary, so the concatenated ids of the segments are the ids of the text.
    """
    for number, turn in enumerate(turns):
        lines = turn.prompt.strip().splitlines() or [""]
        quoted = "".join(f"{QUOTE}{line}".rstrip() + "\n" for line in lines)
        yield ("\n" if number else "") + quoted, turn.answer.strip()


def read_conversations(path: Path) -> Iterator[Conversation]:
    """Yield the pairs of a file, each as a conversation of one turn.

    A .txt is in the layout of TinyStories-Instruct (Eldan & Li 2023): lines that begin with `Features:`,
    `Words:`, `Summary:` or `Random sentence:`, in any order, then `Story:` and the story, then
    `<|endoftext|>`. All that comes before the story is the prompt. Raises UserError if the file cannot be
    read or a pair is incomplete.
    """
    pairs: Iterable[Sequence[str]]
    if path.suffix == ".jsonl":
        pairs = read_objects(path, ("prompt", "answer"))
    elif path.suffix == ".txt":
        pairs = (_split_story(text, f"{path}: text {n}") for n, text in enumerate(read_texts(path), 1))
    else:
        raise UserError(f"{path}: must be {EXPECTED}")
    for number, (prompt, answer) in enumerate(pairs, 1):
        for name, text in (("prompt", prompt), ("answer", answer)):
            if not text.strip():
                raise UserError(f"{path}: pair {number} has an empty {name}")
        yield [Turn(prompt.strip(), answer.strip())]


def _split_story(text: str, where: str) -> tuple[str, str]:
    """Return what comes before the story, and the story."""
    match = STORY.search(text)
    if not match:
        raise UserError(f"{where} has no line `Story:`; the file must be {EXPECTED}")
    return text[: match.start()], text[match.end() :]
