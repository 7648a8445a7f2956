"""How varied a set of texts is: counts of words and of n-grams of words.

A word is a run of letters, without regard to case: "Don't" is the words "don" and "t". What is no letter
(digits, punctuation) is no word. A share of nothing is 0.
How good the stories are that a model writes: what is measured of each, and of all of a temperature.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from slm.core.progress import Progress
from slm.data.documents import estimate_bytes, read_documents
from slm.eval_samples.copies import is_copy, longest_runs
from slm.results.samples import SampleQuality, Story
from slm.tokenizer.tokenizer import decode

LETTERS = re.compile(r"[^\W\d_]+")
N = 4  # words of the n-grams that tell whether a text repeats itself or others


def words(text: str) -> list[str]:
    """The words of a text, in order."""
    return LETTERS.findall(text.casefold())


def ngrams(items: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n items, in order; none if there are fewer."""
    return list(zip(*(items[i:] for i in range(n)), strict=False))


def distinct(texts: Sequence[list[str]], n: int) -> float:
    """Distinct-n: different n-grams of words in all texts, divided by the number of words (Li et al. 2016).

    The more words there are, the less often is one new, so it falls as texts become more or longer: compare
    only sets of equally many texts, and mind their lengths.
    """
    kinds = {gram for text in texts for gram in ngrams(text, n)}
    return share(len(kinds), sum(map(len, texts)))


def seq_rep_4(text: list[str]) -> float:
    """The share of a text's 4-grams of words that occurred before in it: seq-rep-4 of Welleck et al. 2020."""
    grams = ngrams(text, N)
    return share(len(grams) - len(set(grams)), len(grams))


def self_bleu_4(texts: Sequence[list[str]]) -> float:
    """The share of a text's 4-grams of words that another text of the set has too, mean over the texts.

    It is the 4-gram precision of self-BLEU (Zhu et al. 2018) with all the others as references, without the
    clipping of counts; one pass over the texts is enough. Like self-BLEU it grows with the number of texts.
    """
    holders = Counter(gram for text in texts for gram in set(ngrams(text, N)))
    shares = []
    for text in texts:
        grams = ngrams(text, N)
        shares.append(share(sum(holders[gram] > 1 for gram in grams), len(grams)))
    return share(sum(shares), len(shares))


def share(part: float, whole: float) -> float:
    """part / whole; 0 of nothing."""
    return part / whole if whole else 0.0


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
        judged.append(
            Story(
                temperature=temperature,
                sample=number,
                text=text,
                tokens=len(ids),
                ended=ended,
                longest_copy=longest,
                consistent=consistent,
                complaints=found,
            )
        )
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


def summary(stories: Sequence[Story], unknown: Collection[str]) -> SampleQuality:
    """Summarize the samples of one temperature: a row of eval_samples.csv.

    `consistency` is only there where it is known. `eos_rate`, `vocab_coverage`, `copy_rate` and `consistency`
    are shares, of the stories or of all their words;
    `seq_rep_4` and `self_bleu_4` are means over the stories, `longest_copy` is the longest of all. The
    formulas are in this module and copies.py. Only rows of equally many stories compare.
    """
    n = len(stories)
    texts = [words(story.text) for story in stories]
    known = [word not in unknown for text in texts for word in text]
    consistency = None
    if all(story.consistent is not None for story in stories):
        consistency = share(sum(bool(story.consistent) for story in stories), n)
    return SampleQuality(
        temperature=stories[0].temperature,
        num_samples=n,
        eos_rate=share(sum(story.ended for story in stories), n),
        distinct_1=distinct(texts, 1),
        distinct_2=distinct(texts, 2),
        seq_rep_4=share(sum(map(seq_rep_4, texts)), n),
        vocab_coverage=share(sum(known), len(known)),
        copy_rate=share(sum(is_copy(story.longest_copy, story.tokens) for story in stories), n),
        longest_copy=max(story.longest_copy for story in stories),
        self_bleu_4=self_bleu_4(texts),
        consistency=consistency,
    )
