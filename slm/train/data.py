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
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from slm.core.errors import UserError
from slm.model.loss import IGNORE_INDEX
from slm.train.distributed import shard
from slm.train.params import MAX_CHUNKS, TrainParams, n_chunks

# Tokens are copied to a GPU if they take at most this fraction of its memory.
MAX_TOKENS_FRACTION = 0.25


class Batch(NamedTuple):
    """Inputs and targets (B, T), and how many targets count: of a whole step, on all ranks."""

    inputs: Tensor
    targets: Tensor
    n_targets: int


class Batches(Protocol):
    """Source of training data."""

    targets_per_epoch: int

    def train_batch(self, step: int, device: torch.device) -> Batch:
        """Return this rank's shard of a step (counted from 0)."""

    def val_batches(self, device: torch.device) -> Iterator[Batch]:
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
        # The training tokens on the GPU, once they are needed there.
        self._gpu_tokens: Tensor | None = None

    def train_batch(self, step: int, device: torch.device) -> Batch:
        params = self._params
        arguments = (self._block_size, params.batch_size * params.grad_accum_steps, params.seed, step)
        if device.type != "cuda" or not fits_on_gpu(self._train, device):
            batch = training_batch(self._train, *arguments, n_chunks(step, params))
            return to_rank(batch, device)
        if self._gpu_tokens is None:
            self._gpu_tokens = tokens_to_gpu(self._train, device)
        return gpu_batch(self._gpu_tokens, *arguments, n_chunks(step, params))

    def val_batches(self, device: torch.device) -> Iterator[Batch]:
        """Yield windows with about `eval_tokens` targets, spread evenly over the split."""
        windows = shard(validation_windows(self._validation, self._block_size, self._params.eval_tokens))
        for first in range(0, len(windows), self._params.batch_size):
            part = windows[first : first + self._params.batch_size]
            yield to_device(validation_batch(self._validation, self._block_size, part), device)


def training_batch(
    tokens: np.ndarray, block_size: int, batch_size: int, seed: int, step: int, n_chunks: int = 1
) -> Batch:
    """Return inputs and targets (B, T), int64, of a step (counted from 0).

    With n_chunks each window is cut into independent chunks: (B · n_chunks, T / n_chunks).
    """
    starts, offsets = window_starts(len(tokens), block_size, batch_size, seed, step)
    inputs, targets, n_targets = _gather(tokens, block_size, starts, offsets)
    length = block_size // n_chunks
    return Batch(inputs.view(-1, length), targets.view(-1, length), n_targets)


def window_starts(
    n_tokens: int, block_size: int, batch_size: int, seed: int, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the windows of a step: (B,) first targets, counted from the (B,) offsets of their epochs."""
    n_windows = windows_per_epoch(n_tokens, block_size)
    epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), n_windows)
    starts = np.empty(batch_size, dtype=np.int64)
    offsets = np.empty(batch_size, dtype=np.int64)
    # Nearly all batches lie within one epoch.
    for epoch in np.unique(epochs):
        offset, order = _epoch(n_tokens, n_windows, seed, int(epoch))
        in_epoch = epochs == epoch
        starts[in_epoch] = order[places[in_epoch]] * block_size
        offsets[in_epoch] = offset
    return starts, offsets


def validation_windows(tokens: np.ndarray, block_size: int, n_tokens: int) -> np.ndarray:
    """Return the indices of windows with about `n_tokens` targets, evenly spaced; 0 selects all windows."""
    n_windows = windows_per_epoch(len(tokens), block_size)
    n_selected = min(n_windows, -(-n_tokens // block_size)) or n_windows
    return np.arange(n_selected) * n_windows // n_selected


def validation_batch(tokens: np.ndarray, block_size: int, windows: np.ndarray) -> Batch:
    """Return inputs and targets (B, T) of these windows, with the ring cut at its first token."""
    return _gather(tokens, block_size, windows * block_size, np.zeros_like(windows))


def windows_per_epoch(n_tokens: int, block_size: int) -> int:
    """Return the number of windows in an epoch."""
    return -(-n_tokens // block_size)


def to_rank(batch: Batch, device: torch.device) -> Batch:
    """Return this rank's shard of a batch on the device; `n_targets` stays that of the whole batch."""
    return to_device(Batch(shard(batch.inputs), shard(batch.targets), batch.n_targets), device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to the device, asynchronously to a GPU."""
    if device.type != "cuda":
        return Batch(batch.inputs.to(device), batch.targets.to(device), batch.n_targets)
    inputs, targets = (part.pin_memory().to(device, non_blocking=True) for part in batch[:2])
    return Batch(inputs, targets, batch.n_targets)


def fits_on_gpu(tokens: np.ndarray, device: torch.device) -> bool:
    """Return whether the tokens take at most MAX_TOKENS_FRACTION of the GPU's memory."""
    total: int = torch.cuda.get_device_properties(device).total_memory
    return tokens.nbytes <= MAX_TOKENS_FRACTION * total


def tokens_to_gpu(tokens: np.ndarray, device: torch.device) -> Tensor:
    """Copy token ids to the device, as signed integers of the same size: few kernels take unsigned ones."""
    signed = np.ascontiguousarray(tokens).view(f"<i{tokens.itemsize}")
    return torch.from_numpy(signed.copy()).to(device)


def gpu_batch(
    tokens: Tensor, block_size: int, batch_size: int, seed: int, step: int, n_chunks: int = 1
) -> Batch:
    """Return this rank's shard of the same batch as `training_batch`, cut from the tokens on the device."""
    starts, offsets = window_starts(len(tokens), block_size, batch_size, seed, step)
    n_targets = count_targets(len(tokens), block_size, starts)
    bounds = torch.from_numpy(np.stack([shard(starts), shard(offsets)])).to(tokens.device, non_blocking=True)
    positions = bounds[0, :, None] + torch.arange(-1, block_size, device=tokens.device)  # (B, T + 1)
    ids = tokens[(bounds[1, :, None] + positions) % len(tokens)].long()
    # Undo the sign.
    ids &= (1 << 8 * tokens.element_size()) - 1
    targets = ids[:, 1:].masked_fill(positions[:, 1:] >= len(tokens), IGNORE_INDEX)
    length = block_size // n_chunks
    return Batch(ids[:, :-1].reshape(-1, length), targets.view(-1, length), n_targets)


def count_targets(n_tokens: int, block_size: int, starts: np.ndarray) -> int:
    """Return the number of targets of windows: those past the end of the ring do not count."""
    return int(np.minimum(block_size, n_tokens - starts).sum())


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
    n_targets = count_targets(len(tokens), block_size, starts)
    return Batch(inputs.contiguous(), targets.masked_fill(wrapped, IGNORE_INDEX), n_targets)
