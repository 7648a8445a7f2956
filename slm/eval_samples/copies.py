"""What a model copied: the longest run of tokens of each of its stories that its training text has, too.

The suffixes of the stories, sorted (a suffix array, Manber & Myers 1993), stand for a trie of them: suffixes
that begin with the same n tokens are neighbours, and the first of these is the trie's node. Each place of the
training tokens walks down from the root, by the tokens that follow it, as far as the trie goes; all places of
a piece walk at once. So what is found is exact. The training tokens are read once, a piece at a time: time is
linear in them, and memory does not depend on them.

Shapes: S stories, M tokens in all of them with an end for each, N training tokens, P places that still walk,
U suffixes that were reached.
"""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

from slm.core.progress import Progress

PIECE = 1 << 20  # training tokens at a time
BASE = 1 << 32  # more than any token's id
STORY_END, PIECE_END = BASE - 1, BASE - 2  # differ, so that no run goes past either
LONGEST_FILTER = 16  # tokens that are hashed at most
BUCKET_BITS = 22


def is_copy(longest_run: int, n_tokens: int) -> bool:
    """Whether a story counts as copied: at least half of it stands in the training text, in one piece.

    Studies of memorization take a run of a fixed length, 50 tokens (Lee et al. 2022; Carlini et al. 2023);
    short stories have none, and where tokens are characters it is a few words. A share suits all. That no
    story is a copy says that none is recited: a passage within a longer story only shows in its longest run,
    and one that is told again with another name in every sentence does not show at all.
    """
    return 0 < n_tokens <= 2 * longest_run


def longest_runs(stories: Sequence[Sequence[int]], tokens: np.ndarray) -> np.ndarray:
    """(S,) how many tokens the longest run of each story has that occurs in the training tokens (N,).

    Stories hold no end-of-text, so a run lies within one training document. A run is one of tokens: the same
    text cut into other tokens, which a model seldom writes, is not found.
    """
    lengths = np.array([len(story) for story in stories])
    text = np.concatenate([[*story, STORY_END] for story in stories])  # (M,)
    owner = np.repeat(np.arange(len(stories)), lengths + 1)  # (M,) the story of each token
    suffixes = _suffix_array(text, int(lengths.max()) + 1)  # (M,)
    longest = np.zeros_like(lengths)
    with Progress("looking for copies", len(tokens), "tok") as progress:
        for start in range(0, len(tokens), PIECE):
            incomplete = longest < lengths
            if not incomplete.any():
                break
            piece = tokens[start : start + PIECE + lengths.max()]  # what a run that begins in it may need
            piece = np.append(piece.astype(np.int64), PIECE_END)
            at = _promising(piece, text, int(longest[incomplete].min()) + 1)
            for n, reached in enumerate(_walk(piece, at, text, suffixes), start=1):
                found = owner[reached]
                longest[found] = np.maximum(longest[found], n)
            progress.advance(min(PIECE, len(tokens) - start))
    return longest


def _walk(piece: np.ndarray, at: np.ndarray, text: np.ndarray, suffixes: np.ndarray) -> Iterator[np.ndarray]:
    """Walk down from all places `at` (P,) of a piece; after n = 1, 2, … tokens give what was reached.

    Those are, in their order, the suffixes that begin with the n tokens of some place: U of the M.
    """
    node = np.zeros_like(at)  # (P,) where each place is: at the root
    first = np.zeros_like(suffixes)  # (U,) the node of each suffix
    for n in count():
        keys = first * BASE + text.take(suffixes + n, mode="clip")  # (U,) ascending
        wanted = node * BASE + piece.take(at + n, mode="clip")  # (P,)
        node = np.searchsorted(keys, wanted)
        goes_on = keys.take(node, mode="clip") == wanted
        at, node = at[goes_on], node[goes_on]
        if not len(at):
            return
        is_first = np.diff(keys, prepend=-1) > 0
        first = np.maximum.accumulate(np.where(is_first, np.arange(len(keys)), 0))
        is_reached = np.zeros(len(keys), dtype=bool)
        is_reached[node] = True
        is_reached = is_reached[first]
        number = np.cumsum(is_reached) - 1  # of those that stay, as the others have no part in what follows
        suffixes, first, node = suffixes[is_reached], number[first[is_reached]], number[node]
        yield suffixes


def _suffix_array(text: np.ndarray, depth: int) -> np.ndarray:
    """Where the suffixes of a text (M,) begin, sorted by their first `depth` tokens at least.

    A suffix's rank by 2k tokens is that of a pair: its rank by k tokens, and that of the suffix k further on.
    Past its end the text goes on with its last token.
    """
    places = np.arange(len(text))
    _, rank = np.unique(text, return_inverse=True)
    k = 1
    while k < depth:
        pairs = rank * len(text) + rank.take(places + k, mode="clip")
        _, rank = np.unique(pairs, return_inverse=True)
        k *= 2
    return np.argsort(rank, kind="stable")


def _promising(piece: np.ndarray, text: np.ndarray, n: int) -> np.ndarray:
    """The places of a piece at which n tokens may begin that the text has, too.

    A hash of them tells: it lets a few others pass, and saves most of the walks.
    """
    n = min(n, LONGEST_FILTER, len(piece))
    occurs = np.zeros(1 << BUCKET_BITS, dtype=bool)
    occurs[_buckets(text, n)] = True
    return np.flatnonzero(occurs[_buckets(piece, n)])


def _buckets(tokens: np.ndarray, n: int) -> np.ndarray:
    """A number of BUCKET_BITS bits for each n-gram, by a polynomial (Karp & Rabin 1987) modulo 2³²."""
    tokens = tokens.astype(np.uint32)
    hashes = np.zeros(len(tokens) - n + 1, dtype=np.uint32)
    for i in range(n):
        hashes = hashes * np.uint32(2654435761) + tokens[i : i + len(hashes)]
    return hashes >> np.uint32(32 - BUCKET_BITS)
