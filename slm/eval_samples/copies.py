"""Copy detection: the longest run of tokens that each sample shares with the training split.

The sorted suffixes of all samples (a suffix array, Manber & Myers 1993) represent a trie: suffixes that begin
with the same n tokens are adjacent, and the first of them stands for the trie node. Every position of the
training tokens descends from the root, following the tokens from there on, as deep as the trie goes; all
positions of a chunk descend at once. The result is exact. Time is linear in the training tokens, which are
read once; memory does not depend on them.

Shapes: S samples, M tokens in all samples with an end marker after each, N training tokens, P positions that
still descend, U suffixes that were reached.
"""

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

from slm.core.progress import Progress

# Training tokens per chunk.
CHUNK = 1 << 20
# Larger than any token id, so that node · BASE + token is unique.
BASE = 1 << 32
# Markers that equal no token and not each other, so that no run crosses them.
SAMPLE_END, CHUNK_END = BASE - 1, BASE - 2
# The filter hashes n-grams of at most this many tokens into 2**BUCKET_BITS buckets.
MAX_FILTER_LENGTH = 16
BUCKET_BITS = 22


def is_copy(longest_copy: int, n_tokens: int) -> bool:
    """Return whether at least half of a sample is one run that occurs in the training split.

    Studies of memorization use a run of 50 tokens (Lee et al. 2022; Carlini et al. 2023). Short stories have
    none, and where tokens are characters 50 are a few words, so this is relative to the length. It detects
    recitation; it does not detect a shorter copied passage, nor a copy with another name in every sentence.
    """
    return 0 < n_tokens <= 2 * longest_copy


def longest_copies(samples: Sequence[Sequence[int]], tokens: np.ndarray) -> np.ndarray:
    """Return (S,) the length of each sample's longest run that occurs in the training tokens (N,).

    Samples contain no end-of-text, so a run lies within one training document. Runs are compared as tokens:
    the same text in another tokenization, which a model rarely generates, is not found.
    """
    lengths = np.array([len(sample) for sample in samples])
    text = np.concatenate([[*sample, SAMPLE_END] for sample in samples])  # (M,)
    sample_of = np.repeat(np.arange(len(samples)), lengths + 1)  # (M,)
    suffixes = _suffix_array(text, int(lengths.max()) + 1)  # (M,)
    longest = np.zeros_like(lengths)
    with Progress("copy detection", len(tokens), "tok") as progress:
        for start in range(0, len(tokens), CHUNK):
            incomplete = longest < lengths
            if not incomplete.any():
                break
            # A run that begins in this chunk may continue in the next one.
            chunk = tokens[start : start + CHUNK + lengths.max()]
            chunk = np.append(chunk.astype(np.int64), CHUNK_END)
            positions = _filter_positions(chunk, text, int(longest[incomplete].min()) + 1)
            for n, reached in enumerate(_descend(chunk, positions, text, suffixes), start=1):
                extended = sample_of[reached]
                longest[extended] = np.maximum(longest[extended], n)
            progress.advance(min(CHUNK, len(tokens) - start))
    return longest


def _descend(
    chunk: np.ndarray, positions: np.ndarray, text: np.ndarray, suffixes: np.ndarray
) -> Iterator[np.ndarray]:
    """Descend from all positions (P,) of a chunk; yield the suffixes reached after n = 1, 2, … tokens.

    They are, in sorted order, the suffixes that begin with the n tokens at some position: U of the M.
    """
    node = np.zeros_like(positions)  # (P,) index of the node of each position: at first the root
    first = np.zeros_like(suffixes)  # (U,) index of the first suffix with the same n tokens: its node
    for n in count():
        # Find the child of each position's node by its next token; drop positions without one.
        keys = first * BASE + text.take(suffixes + n, mode="clip")  # (U,) ascending
        wanted = node * BASE + chunk.take(positions + n, mode="clip")  # (P,)
        node = np.searchsorted(keys, wanted)
        has_child = keys.take(node, mode="clip") == wanted
        positions, node = positions[has_child], node[has_child]
        if not len(positions):
            return

        # Keep the suffixes below the reached nodes, and renumber the nodes among them.
        is_first = np.diff(keys, prepend=-1) > 0
        first = np.maximum.accumulate(np.where(is_first, np.arange(len(keys)), 0))
        is_reached = np.zeros(len(keys), dtype=bool)
        is_reached[node] = True
        is_reached = is_reached[first]
        new_index = np.cumsum(is_reached) - 1
        suffixes, first, node = suffixes[is_reached], new_index[first[is_reached]], new_index[node]
        yield suffixes


def _suffix_array(text: np.ndarray, depth: int) -> np.ndarray:
    """Return the starts of the suffixes of a text (M,), sorted by at least their first `depth` tokens.

    The rank of a suffix by 2k tokens follows from its rank by k tokens and that of the suffix k tokens later
    (prefix doubling). Past its end the text repeats its last token.
    """
    starts = np.arange(len(text))
    _, rank = np.unique(text, return_inverse=True)
    k = 1
    while k < depth:
        pairs = rank * len(text) + rank.take(starts + k, mode="clip")
        _, rank = np.unique(pairs, return_inverse=True)
        k *= 2
    return np.argsort(rank, kind="stable")


def _filter_positions(chunk: np.ndarray, text: np.ndarray, n: int) -> np.ndarray:
    """Return the positions of a chunk whose next n tokens may occur in the text.

    It compares hashes, so some positions are false positives; it avoids most of the descents.
    """
    n = min(n, MAX_FILTER_LENGTH, len(chunk))
    occurs = np.zeros(1 << BUCKET_BITS, dtype=bool)
    occurs[_buckets(text, n)] = True
    return np.flatnonzero(occurs[_buckets(chunk, n)])


def _buckets(tokens: np.ndarray, n: int) -> np.ndarray:
    """Return a bucket for each n-gram, by a polynomial hash (Karp & Rabin 1987) modulo 2³²."""
    tokens = tokens.astype(np.uint32)
    hashes = np.zeros(len(tokens) - n + 1, dtype=np.uint32)
    for i in range(n):
        hashes = hashes * np.uint32(2654435761) + tokens[i : i + len(hashes)]
    return hashes >> np.uint32(32 - BUCKET_BITS)
