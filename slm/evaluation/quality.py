"""How good the stories are that a model writes: what is measured of each, and of all of a temperature."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from slm.corpus.documents import estimate_bytes, read_documents
from slm.evaluation.copies import is_copy, longest_runs
from slm.evaluation.diversity import distinct, repetition, self_similarity, share, words
from slm.files import write_text
from slm.progress import Progress
from slm.tokens.tokenizer import decode


@dataclass(frozen=True)
class Story:
    """A story that a model wrote from nothing, and what was found out about it: a line of stories.jsonl."""

    temperature: float
    sample: int  # its number among those of the temperature, from 1 on
    text: str
    tokens: int
    ended: bool  # by the model, before it had to stop
    longest_copy: int  # tokens of its longest run that the training text has, too
    consistent: bool | None  # None: not known of this corpus
    complaints: list[str]  # why it is not


def judge(
    written: dict[float, list[list[int]]],
    max_new_tokens: int,
    tokenizer: Tokenizer,
    train: np.ndarray,
    complaints: Callable[[str], list[str]] | None,
) -> list[Story]:
    """Judge the token ids of the stories written at each temperature, one by one.

    `train` are the training tokens (N,); `complaints` says what is inconsistent in a text, if that is known.
    """
    drafts = [
        (temperature, number, ids)
        for temperature, stories in written.items()
        for number, ids in enumerate(stories, start=1)
    ]
    runs = longest_runs([ids for _, _, ids in drafts], train)
    judged = []
    for (temperature, number, ids), longest in zip(drafts, runs.tolist(), strict=True):
        text = decode(tokenizer, ids)
        found = complaints(text) if complaints else []
        consistent = not found if complaints else None
        ended = len(ids) < max_new_tokens
        judged.append(Story(temperature, number, text, len(ids), ended, longest, consistent, found))
    return judged


def unknown_words(stories: Sequence[Story], parquet: Path) -> set[str]:
    """The words of the stories that no document of a corpus file has; read until there are none left."""
    missing = {word for story in stories for word in words(story.text)}
    with Progress("looking for words", estimate_bytes(parquet), "B") as progress:
        for texts in read_documents(parquet):
            if not missing:
                break
            folded = "\n".join(texts).casefold()
            if any(word in folded for word in missing):  # soon there is none, and this is faster
                missing.difference_update(words(folded))
            progress.advance(sum(len(text.encode()) for text in texts))
    return missing


def summary(stories: Sequence[Story], unknown: Collection[str]) -> dict[str, float]:
    """A row of quality.csv: the stories of one temperature together; `consistent` only where it is known.

    `ended`, `known_words`, `copies` and `consistent` are shares, of the stories or of all their words;
    `repetition` and `self_similarity` are means over the stories, `longest_copy` is the longest of all. The
    formulas are in diversity.py and copies.py. Only rows of equally many stories compare.
    """
    n = len(stories)
    texts = [words(story.text) for story in stories]
    known = [word not in unknown for text in texts for word in text]
    row = {
        "temperature": stories[0].temperature,
        "stories": n,
        "ended": share(sum(story.ended for story in stories), n),
        "distinct_1": distinct(texts, 1),
        "distinct_2": distinct(texts, 2),
        "repetition": share(sum(map(repetition, texts)), n),
        "known_words": share(sum(known), len(known)),
        "copies": share(sum(is_copy(story.longest_copy, story.tokens) for story in stories), n),
        "longest_copy": max(story.longest_copy for story in stories),
        "self_similarity": self_similarity(texts),
    }
    if all(story.consistent is not None for story in stories):
        row["consistent"] = share(sum(bool(story.consistent) for story in stories), n)
    return row


def write_stories(path: Path, stories: Sequence[Story]) -> None:
    """Write one story a line, as JSON; in ASCII, as a text may hold signs that some readers end lines at."""
    write_text(path, "".join(json.dumps(asdict(story)) + "\n" for story in stories))
