"""Metrics of samples: diversity, repetition, vocabulary, copies and consistency.

A word is a run of letters, case-folded: "Don't" is the words "don" and "t". Digits and punctuation belong to
no word. A fraction of nothing is 0.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from slm.core.progress import Progress
from slm.data.documents import estimate_bytes, read_documents
from slm.eval_samples.copies import is_copy, longest_copies
from slm.results.samples import SampleQuality, Story
from slm.tokenizer.tokenizer import decode

LETTERS = re.compile(r"[^\W\d_]+")


def words(text: str) -> list[str]:
    """Return the words of a text, in order."""
    return LETTERS.findall(text.casefold())


def ngrams(items: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """Return all runs of n items, in order: ngrams(["a", "b", "a"], 2) == [("a", "b"), ("b", "a")]."""
    return list(zip(*(items[i:] for i in range(n)), strict=False))


def distinct(texts: Sequence[list[str]], n: int) -> float:
    """Return distinct-n: distinct n-grams of words in all texts, divided by the words (Li et al. 2016).

    It falls as texts become more or longer, since new words become rarer: compare only sets of equally many
    texts of similar lengths.
    """
    types = {gram for text in texts for gram in ngrams(text, n)}
    return fraction(len(types), sum(map(len, texts)))


def seq_rep_4(text: list[str]) -> float:
    """Return the fraction of a text's 4-grams of words that occurred before in it (Welleck et al. 2020)."""
    grams = ngrams(text, 4)
    return fraction(len(grams) - len(set(grams)), len(grams))


def self_bleu_4(texts: Sequence[list[str]]) -> float:
    """Return the fraction of a text's 4-grams of words that another text contains, mean over the texts.

    It is the 4-gram precision of self-BLEU (Zhu et al. 2018) with all other texts as references, without
    clipping, which takes one pass over the texts. Like self-BLEU it grows with the number of texts.
    """
    n_texts_with = Counter(gram for text in texts for gram in set(ngrams(text, 4)))
    precisions = []
    for text in texts:
        grams = ngrams(text, 4)
        precisions.append(fraction(sum(n_texts_with[gram] > 1 for gram in grams), len(grams)))
    return fraction(sum(precisions), len(precisions))


def fraction(part: float, whole: float) -> float:
    """Return part / whole; 0 if both are 0."""
    return part / whole if whole else 0.0


def check_samples(
    samples: dict[float, list[list[int]]],
    max_new_tokens: int,
    tokenizer: Tokenizer,
    train: np.ndarray,
    find_contradictions: Callable[[str], list[str]] | None,
) -> list[Story]:
    """Decode the token ids of the samples of each temperature and check them one by one.

    `train` are the training tokens (N,). `find_contradictions` returns the inconsistencies of a text; it is
    None if the corpus has no such checker.
    """
    numbered = [
        (temperature, number, ids)
        for temperature, of_temperature in samples.items()
        for number, ids in enumerate(of_temperature, start=1)
    ]
    copies = longest_copies([ids for _, _, ids in numbered], train).tolist()
    stories = []
    for (temperature, number, ids), longest_copy in zip(numbered, copies, strict=True):
        text = decode(tokenizer, ids)
        contradictions = find_contradictions(text) if find_contradictions else []
        story = Story(
            temperature=temperature,
            sample=number,
            text=text,
            tokens=len(ids),
            ended=len(ids) < max_new_tokens,
            longest_copy=longest_copy,
            consistent=not contradictions if find_contradictions else None,
            complaints=contradictions,
        )
        stories.append(story)
    return stories


def unknown_words(stories: Sequence[Story], parquet: Path) -> set[str]:
    """Return the words of the stories that no document of a corpus file contains."""
    unknown = {word for story in stories for word in words(story.text)}
    with Progress("vocabulary coverage", estimate_bytes(parquet), "B") as progress:
        for texts in read_documents(parquet):
            if not unknown:
                break
            folded = "\n".join(texts).casefold()
            # Finding a substring is faster than splitting into words, and soon few words are unknown.
            if any(word in folded for word in unknown):
                unknown.difference_update(words(folded))
            progress.advance(sum(len(text.encode()) for text in texts))
    return unknown


def summarize_stories(stories: Sequence[Story], unknown: Collection[str]) -> SampleQuality:
    """Return the metrics of the stories of one temperature: a row of eval_samples.csv.

    `vocab_coverage` is the fraction of all words that are not in `unknown`; `seq_rep_4` is a mean over the
    stories, `longest_copy` a maximum. `consistency` is None where it was not checked. Compare only rows of
    equally many stories.
    """
    n = len(stories)
    texts = [words(story.text) for story in stories]
    is_known = [word not in unknown for text in texts for word in text]
    consistency = None
    if all(story.consistent is not None for story in stories):
        consistency = fraction(sum(bool(story.consistent) for story in stories), n)
    return SampleQuality(
        temperature=stories[0].temperature,
        num_samples=n,
        eos_rate=fraction(sum(story.ended for story in stories), n),
        distinct_1=distinct(texts, 1),
        distinct_2=distinct(texts, 2),
        seq_rep_4=fraction(sum(map(seq_rep_4, texts)), n),
        vocab_coverage=fraction(sum(is_known), len(is_known)),
        copy_rate=fraction(sum(is_copy(story.longest_copy, story.tokens) for story in stories), n),
        longest_copy=max(story.longest_copy for story in stories),
        self_bleu_4=self_bleu_4(texts),
        consistency=consistency,
    )
