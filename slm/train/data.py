"""Batches of token windows, determined by the seed and the step alone.

The tokens of a split form a ring. Each epoch cuts the ring at a random place and divides it into windows of
`block_size` targets; the input of a target is the token before it. Thus each token is a target exactly once
per epoch, in a different context each time. The last window may overlap the first; the overlapping targets
are IGNORE_INDEX. Windows are shuffled, and a batch may span two epochs.

The functions have no state: batch 1000 is the same whether or not 0 to 999 were requested.

Shapes: B windows, T = block_size tokens.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from slm.core.errors import UserError
from slm.model.layers import IGNORE_INDEX
from slm.train.distributed import shard
from slm.train.params import MAX_CHUNKS, TrainParams, n_chunks

# Inputs and targets.
Batch = tuple[Tensor, Tensor]


class Batches(Protocol):
    """Source of training data: inputs and targets (B, T)."""

    targets_per_epoch: int

    def train_batch(self, step: int) -> Batch:
        """Return the sequences of a step (counted from 0), for all ranks together."""

    def val_batches(self) -> Iterator[Batch]:
        """Yield this rank's shard of the validation batches, the same at each evaluation."""


class WindowBatches:
    """Windows of the training and validation tokens, which are one-dimensional arrays.

    Raises UserError if a split is empty, or block_size does not fit the sequence-length warm-up.
    """

    def __init__(self, train: np.ndarray, validation: np.ndarray, block_size: int, params: TrainParams):
        for name, tokens in (("training", train), ("validation", validation)):
            if not len(tokens):
                raise UserError(f"the {name} split is empty; it needs at least one token")
        if params.seq_len_warmup_steps and block_size % MAX_CHUNKS:
            raise UserError(
                f"model.block_size: must be a multiple of {MAX_CHUNKS} with train.seq_len_warmup_steps, "
                f"got {block_size}"
            )
        self._train, self._validation, self._block_size, self._params = train, validation, block_size, params
        self.targets_per_epoch = len(train)

    def train_batch(self, step: int) -> Batch:
        params = self._params
        batch_size = params.batch_size * params.grad_accum_steps
        return training_batch(
            self._train, self._block_size, batch_size, params.seed, step, n_chunks(step, params)
        )

    def val_batches(self) -> Iterator[Batch]:
        """Yield windows with about `eval_tokens` targets, spread evenly over the split."""
        windows = shard(validation_windows(self._validation, self._block_size, self._params.eval_tokens))
        for first in range(0, len(windows), self._params.batch_size):
            part = windows[first : first + self._params.batch_size]
            yield validation_batch(self._validation, self._block_size, part)


def training_batch(
    tokens: np.ndarray, block_size: int, batch_size: int, seed: int, step: int, n_chunks: int = 1
) -> Batch:
    """Return inputs and targets (B, T), int64, of a step (counted from 0).

    With n_chunks each window is cut into independent chunks: (B · n_chunks, T / n_chunks).
    """
    n_windows = windows_per_epoch(tokens, block_size)
    epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), n_windows)
    starts = np.empty(batch_size, dtype=np.int64)
    offsets = np.empty(batch_size, dtype=np.int64)
    # Nearly all batches lie within one epoch.
    for epoch in np.unique(epochs):
        offset, order = _epoch(len(tokens), n_windows, seed, int(epoch))
        in_epoch = epochs == epoch
        starts[in_epoch] = order[places[in_epoch]] * block_size
        offsets[in_epoch] = offset
    inputs, targets = _gather(tokens, block_size, starts, offsets)
    return inputs.view(-1, block_size // n_chunks), targets.view(-1, block_size // n_chunks)


def validation_windows(tokens: np.ndarray, block_size: int, n_tokens: int) -> np.ndarray:
    """Return the indices of windows with about `n_tokens` targets, evenly spaced; 0 selects all windows."""
    n_windows = windows_per_epoch(tokens, block_size)
    n_selected = min(n_windows, -(-n_tokens // block_size)) or n_windows
    return np.arange(n_selected) * n_windows // n_selected


def validation_batch(tokens: np.ndarray, block_size: int, windows: np.ndarray) -> Batch:
    """Return inputs and targets (B, T) of these windows, with the ring cut at its first token."""
    return _gather(tokens, block_size, windows * block_size, np.zeros_like(windows))


def windows_per_epoch(tokens: np.ndarray, block_size: int) -> int:
    """Return the number of windows in an epoch."""
    return -(-len(tokens) // block_size)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to the device, asynchronously to a GPU."""
    if device.type != "cuda":
        return batch[0].to(device), batch[1].to(device)
    inputs, targets = (part.pin_memory().to(device, non_blocking=True) for part in batch)
    return inputs, targets


@lru_cache(maxsize=2)
def _epoch(n_tokens: int, n_windows: int, seed: int, epoch: int) -> tuple[int, np.ndarray]:
    """Return where an epoch cuts the ring, and the order of its windows."""
    rng = np.random.default_rng([seed, epoch])
    return int(rng.integers(n_tokens)), rng.permutation(n_windows)


def _gather(tokens: np.ndarray, block_size: int, starts: np.ndarray, offsets: np.ndarray) -> Batch:
    """Return the windows whose first target lies `starts` tokens after `offsets` on the ring."""
    # T targets and the token before them.
    positions = starts[:, None] + np.arange(-1, block_size)  # (B, T + 1)
    ids = torch.from_numpy(tokens[(offsets[:, None] + positions) % len(tokens)].astype(np.int64))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    # Targets past the end of the ring belong to the first window.
    wrapped = torch.from_numpy(positions[:, 1:] >= len(tokens))
    return inputs.contiguous(), targets.masked_fill(wrapped, IGNORE_INDEX)
