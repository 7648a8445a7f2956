"""Tests of slm.train.data."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from slm.model.loss import IGNORE_INDEX
from slm.train.data import (
    gpu_batch,
    tokens_to_gpu,
    training_batch,
    validation_batch,
    validation_windows,
    windows_per_epoch,
)

sizes = st.integers(1, 40)


def tokens_of(n: int) -> np.ndarray:
    """A text whose tokens are their own positions."""
    return np.arange(n, dtype=np.uint16)


def check_inputs_precede(inputs, targets, n):
    counted = targets != IGNORE_INDEX
    assert ((inputs + 1) % n == targets)[counted].all()


@given(n=sizes, block_size=sizes, batch_size=sizes, seed=st.integers(0, 2**63 - 1), epochs=st.integers(1, 3))
def test_each_token_is_a_target_once_per_epoch(n, block_size, batch_size, seed, epochs):
    tokens = tokens_of(n)
    n_rows = epochs * windows_per_epoch(n, block_size)
    rows = []
    for step in range(-(-n_rows // batch_size)):
        inputs, targets, n_targets = training_batch(tokens, block_size, batch_size, seed, step)
        assert n_targets == (targets != IGNORE_INDEX).sum()
        assert inputs.shape == targets.shape == (batch_size, block_size)
        check_inputs_precede(inputs, targets, n)
        rows.extend(targets.numpy())
    for epoch in np.split(np.array(rows[:n_rows]), epochs):
        assert sorted(epoch[epoch != IGNORE_INDEX]) == list(range(n))


@given(n=sizes, block_size=sizes, batch_size=sizes)
def test_inputs_of_a_window_are_consecutive(n, block_size, batch_size):
    inputs, *_ = training_batch(tokens_of(n), block_size, batch_size, seed=1, step=3)
    assert ((inputs[:, :-1] + 1) % n == inputs[:, 1:]).all()


def test_batch_depends_only_on_seed_and_step():
    tokens = tokens_of(1000)
    later = training_batch(tokens, 8, 4, seed=1, step=70)
    for step in range(70):
        training_batch(tokens, 8, 4, seed=1, step=step)
    again = training_batch(tokens, 8, 4, seed=1, step=70)
    assert (later[0] == again[0]).all()
    assert (later[1] == again[1]).all()
    assert (later[1] != training_batch(tokens, 8, 4, seed=2, step=70)[1]).any()


def test_epochs_differ_in_order_and_offset():
    tokens = tokens_of(800)  # 100 windows, in 25 batches of 4
    first, second = (
        np.concatenate([training_batch(tokens, 8, 4, seed=1, step=step)[1] for step in steps])[:, 0]
        for steps in (range(25), range(25, 50))
    )
    assert set(first % 8) != set(second % 8)
    assert (np.diff(first) < 0).any()
    assert (np.argsort(first) != np.argsort(second)).any()


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
@given(n=sizes, quarter=sizes, batch_size=sizes, step=st.integers(0, 9), n_chunks=st.sampled_from([1, 2, 4]))
def test_gpu_batch_matches_training_batch(dtype, n, quarter, batch_size, step, n_chunks):
    # The largest ids are negative as signed integers.
    tokens = (np.iinfo(dtype).max - np.arange(n)).astype(dtype)
    expected = training_batch(tokens, 4 * quarter, batch_size, 1, step, n_chunks)
    batch = gpu_batch(tokens_to_gpu(tokens, torch.device("cpu")), 4 * quarter, batch_size, 1, step, n_chunks)
    assert torch.equal(batch.inputs, expected.inputs)
    assert torch.equal(batch.targets, expected.targets)
    assert batch.n_targets == expected.n_targets


def test_memory_map_gives_the_batches_of_an_array(tmp_path):
    tokens = tokens_of(500)
    tokens.tofile(tmp_path / "train.bin")
    mapped = np.memmap(tmp_path / "train.bin", dtype=np.uint16, mode="r")
    expected, found = (training_batch(t, 8, 4, seed=1, step=5) for t in (tokens, mapped))
    assert (expected[0] == found[0]).all()
    assert (expected[1] == found[1]).all()


@given(n=sizes, block_size=sizes, n_tokens=st.integers(0, 60))
def test_validation_windows_are_distinct_and_cover_eval_tokens(n, block_size, n_tokens):
    tokens = tokens_of(n)
    windows = validation_windows(tokens, block_size, n_tokens)
    assert len(set(windows)) == len(windows)
    inputs, targets, _ = validation_batch(tokens, block_size, windows)
    check_inputs_precede(inputs, targets, n)
    n_targets = int((targets != IGNORE_INDEX).sum())
    if n_tokens == 0 or n_tokens >= n:
        assert sorted(targets[targets != IGNORE_INDEX].tolist()) == list(range(n))
    else:
        assert n_tokens - block_size < n_targets < n_tokens + block_size


def test_validation_windows_are_evenly_spaced():
    assert validation_windows(tokens_of(1000), 10, 100).tolist() == list(range(0, 100, 10))


@given(n=sizes, quarter=sizes, batch_size=sizes, n_chunks=st.sampled_from([1, 2, 4]))
def test_chunks_concatenate_to_their_window(n, quarter, batch_size, n_chunks):
    whole = training_batch(tokens_of(n), 4 * quarter, batch_size, seed=1, step=2)
    cut = training_batch(tokens_of(n), 4 * quarter, batch_size, 1, 2, n_chunks)
    for of_window, of_pieces in zip(whole[:2], cut[:2], strict=True):
        assert of_pieces.shape == (batch_size * n_chunks, 4 * quarter // n_chunks)
        assert (of_pieces.flatten() == of_window.flatten()).all()
