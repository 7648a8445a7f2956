"""A conversation: requests, and the answer to each.
Files of conversations to learn from: requests with the answers that are wanted.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from slm.core.errors import UserError
from slm.data.textfiles import read_objects, read_texts


class Turn(NamedTuple):
    """A request, and how it should be answered."""

    request: str
    answer: str
    wishes: Mapping[str, str] = MappingProxyType({})  # what can be checked of an answer: kind → value


Conversation = list[Turn]


ALLOWED = ".jsonl of objects with a `prompt` and an `answer`, or .txt in the layout of TinyStories-Instruct"
STORY = re.compile(r"^Story:[ \t]*\n", re.MULTILINE)


def read_conversations(path: Path) -> Iterator[Conversation]:
    """The pairs of a file, each a conversation of one turn.

    In a .txt they are in the layout of TinyStories-Instruct (Eldan & Li 2023): lines that begin with
    `Features:`, `Words:`, `Summary:` or `Random sentence:`, in any order, then `Story:` and the story, then
    `<|endoftext|>`. All that comes before the story is the request. Raises UserError if the file cannot be
    read, or a pair is not whole.
    """
    if path.suffix == ".jsonl":
        pairs = read_objects(path, ("prompt", "answer"))
    elif path.suffix == ".txt":
        pairs = (_cut(text, f"{path}: text {number}") for number, text in enumerate(read_texts(path), 1))
    else:
        raise UserError(f"{path}: not a kind of file that holds pairs; allowed: {ALLOWED}")
    for number, (request, answer) in enumerate(pairs, 1):
        for name, text in (("request", request), ("answer", answer)):
            if not text.strip():
                raise UserError(f"{path}: pair {number} has an empty {name}")
        yield [Turn(request.strip(), answer.strip())]


def _cut(text: str, where: str) -> tuple[str, str]:
    """What comes before the story, and the story."""
    found = STORY.search(text)
    if not found:
        raise UserError(f"{where} has no line `Story:`; allowed: {ALLOWED}")
    return text[: found.start()], text[found.end() :]
