"""Conversations, and the files that hold them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from slm.core.errors import UserError
from slm.data.textfiles import read_objects, read_texts

EXPECTED = ".jsonl of objects with a `prompt` and an `answer`, or .txt in the layout of TinyStories-Instruct"
STORY = re.compile(r"^Story:[ \t]*\n", re.MULTILINE)


class Turn(NamedTuple):
    """A prompt, the wanted answer, and the constraints on an answer that can be checked (kind → value)."""

    prompt: str
    answer: str
    constraints: Mapping[str, str] = MappingProxyType({})


Conversation = list[Turn]


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
