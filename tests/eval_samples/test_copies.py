"""Copy detection, compared with trying every run of every sample."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slm.eval_samples import copies
from slm.eval_samples.copies import is_copy, longest_copies

END = 0
STORIES = st.lists(st.lists(st.integers(1, 3), max_size=25), min_size=1, max_size=6)
TOKENS = st.lists(st.integers(0, 3), min_size=1, max_size=80)


def longest_run_by_hand(story: list[int], tokens: list[int]) -> int:
    runs = [story[i:j] for i in range(len(story)) for j in range(i + 1, len(story) + 1)]
    return max((len(run) for run in runs if occurs(run, tokens)), default=0)


def occurs(run: list[int], tokens: list[int]) -> bool:
    return any(tokens[i : i + len(run)] == run for i in range(len(tokens)))


def random_ids(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 1000, n, dtype=np.uint16)


@settings(max_examples=300, deadline=None)
@given(stories=STORIES, tokens=TOKENS, chunk=st.integers(1, 30), filtered=st.integers(1, 20))
@example(stories=[[1] * 25, [1, 2] * 10, []], tokens=[1] * 30 + [2] + [1] * 30, chunk=7, filtered=16)
@example(stories=[[1] * 25], tokens=[1] * 20 + [2], chunk=20, filtered=16)
def test_longest_copies_match_brute_force(stories, tokens, chunk, filtered):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "CHUNK", chunk)
        patch.setattr(copies, "MAX_FILTER_LENGTH", filtered)
        lengths = longest_copies(stories, np.array(tokens, np.uint16))
    assert lengths.tolist() == [longest_run_by_hand(story, tokens) for story in stories]


@settings(max_examples=100, deadline=None)
@given(tokens=TOKENS, data=st.data())
def test_excerpt_of_training_tokens_is_a_complete_copy(tokens, data):
    start = data.draw(st.integers(0, len(tokens) - 1))
    stop = data.draw(st.integers(start + 1, len(tokens)))
    assert longest_copies([[3, 3, 3], tokens[start:stop]], np.array(tokens, np.uint16))[1] == stop - start


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_copy_across_chunks_of_a_memory_map_is_detected(dtype, tmp_path):
    tokens = random_ids(copies.CHUNK + 5000).astype(dtype)
    border = slice(copies.CHUNK - 100, copies.CHUNK + 100)
    if dtype == np.uint32:
        tokens[border] += 100_000
    tokens.tofile(tmp_path / "train.bin")
    mapped = np.memmap(tmp_path / "train.bin", dtype=dtype, mode="r")
    other = random_ids(300, seed=1).tolist()
    story = [*other[:50], *tokens[border].tolist(), *other[50:]]
    whole, short = longest_copies([story, other], mapped)
    assert whole == 200
    # By chance: 1000² pairs among 300 × 10⁶.
    assert short < 10


def test_copies_do_not_cross_sample_or_document_ends():
    tokens = np.array([1, 2, 3, 4, END, 5, 6, 7, 8, END], np.uint16)
    assert longest_copies([[1, 2], [3, 4, 5, 6, 7, 8], [8, 1]], tokens).tolist() == [2, 4, 1]


def test_unseen_tokens_have_no_copy():
    assert longest_copies([[70_000, 9], []], np.array([1, 2, 3], np.uint16)).tolist() == [0, 0]


def test_memory_is_independent_of_training_tokens(monkeypatch):
    monkeypatch.setattr(copies, "CHUNK", 1 << 15)
    stories = [random_ids(100, seed).tolist() for seed in range(1, 5)]

    def peak(n_chunks: int) -> int:
        # Broadcasting takes no memory.
        tokens = np.broadcast_to(np.uint16(7), (n_chunks * copies.CHUNK,))
        tracemalloc.start()
        longest_copies(stories, tokens)
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak_bytes

    assert peak(20) < 1.1 * peak(2)


@pytest.mark.parametrize(
    ("longest_run", "n_tokens", "expected"),
    [
        (50, 100, True),
        (49, 100, False),
        (2, 3, True),
        (1, 3, False),
        (1, 1, True),
        (0, 0, False),
        (0, 1, False),
    ],
)
def test_is_copy_from_half_of_the_tokens(longest_run, n_tokens, expected):
    assert is_copy(longest_run, n_tokens) is expected
