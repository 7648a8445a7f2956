"""What is copied from the training tokens, against looking for every run of every story."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slm.eval_samples import copies
from slm.eval_samples.copies import is_copy, longest_runs

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
@given(stories=STORIES, tokens=TOKENS, piece=st.integers(1, 30), filtered=st.integers(1, 20))
@example(stories=[[1] * 25, [1, 2] * 10, []], tokens=[1] * 30 + [2] + [1] * 30, piece=7, filtered=16)
@example(stories=[[1] * 25], tokens=[1] * 20 + [2], piece=20, filtered=16)
def test_the_longest_run_is_the_one_found_by_trying_all(stories, tokens, piece, filtered):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "PIECE", piece)
        patch.setattr(copies, "LONGEST_FILTER", filtered)
        found = longest_runs(stories, np.array(tokens, np.uint16))
    assert found.tolist() == [longest_run_by_hand(story, tokens) for story in stories]


@settings(max_examples=100, deadline=None)
@given(tokens=TOKENS, data=st.data())
def test_all_of_a_story_that_was_cut_out_of_the_training_tokens_is_found(tokens, data):
    start = data.draw(st.integers(0, len(tokens) - 1))
    stop = data.draw(st.integers(start + 1, len(tokens)))
    assert longest_runs([[3, 3, 3], tokens[start:stop]], np.array(tokens, np.uint16))[1] == stop - start


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_a_copy_that_lies_across_two_pieces_of_a_memory_map_is_found(dtype, tmp_path):
    tokens = random_ids(copies.PIECE + 5000).astype(dtype)
    border = slice(copies.PIECE - 100, copies.PIECE + 100)
    if dtype == np.uint32:
        tokens[border] += 100_000
    tokens.tofile(tmp_path / "train.bin")
    mapped = np.memmap(tmp_path / "train.bin", dtype=dtype, mode="r")
    other = random_ids(300, seed=1).tolist()
    story = [*other[:50], *tokens[border].tolist(), *other[50:]]
    whole, short = longest_runs([story, other], mapped)
    assert whole == 200
    assert short < 10  # by chance: 1000² pairs among 300 × 10⁶


def test_no_run_goes_past_the_end_of_a_story_or_of_a_training_document():
    tokens = np.array([1, 2, 3, 4, END, 5, 6, 7, 8, END], np.uint16)
    assert longest_runs([[1, 2], [3, 4, 5, 6, 7, 8], [8, 1]], tokens).tolist() == [2, 4, 1]


def test_a_story_of_tokens_that_training_never_saw_has_no_run():
    assert longest_runs([[70_000, 9], []], np.array([1, 2, 3], np.uint16)).tolist() == [0, 0]


def test_memory_does_not_grow_with_the_training_tokens(monkeypatch):
    monkeypatch.setattr(copies, "PIECE", 1 << 15)
    stories = [random_ids(100, seed).tolist() for seed in range(1, 5)]

    def peak(n_pieces: int) -> int:
        tokens = np.broadcast_to(np.uint16(7), (n_pieces * copies.PIECE,))  # takes no memory itself
        tracemalloc.start()
        longest_runs(stories, tokens)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

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
def test_a_copy_is_a_story_of_which_half_or_more_is_one_run(longest_run, n_tokens, expected):
    assert is_copy(longest_run, n_tokens) is expected
