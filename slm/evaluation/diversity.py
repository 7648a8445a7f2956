"""How varied a set of texts is: counts of words and of n-grams of words.

A word is a run of letters, without regard to case: "Don't" is the words "don" and "t". What is no letter
(digits, punctuation) is no word. A share of nothing is 0.
"""

import re
from collections import Counter
from collections.abc import Sequence

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


def repetition(text: list[str]) -> float:
    """The share of a text's 4-grams of words that occurred before in it: seq-rep-4 of Welleck et al. 2020."""
    grams = ngrams(text, N)
    return share(len(grams) - len(set(grams)), len(grams))


def self_similarity(texts: Sequence[list[str]]) -> float:
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
