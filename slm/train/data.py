"""Batches of token windows, in an order that the seed and the step alone decide.

The tokens are seen as a ring. Each epoch cuts it at a random place and lays windows of `block_size` targets
around it; the input of a target is the token before it. So each token is a target exactly once an epoch, with
other neighbours in its window each time. The last window may overlap the first: what the first has
already predicted is IGNORED there. Windows come in a random order, and a batch may straddle two epochs.

Nothing here has a state: batch 1000 is the same whether or not 0 to 999 were asked for.

Shapes: B windows, T = block_size tokens in each.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from slm.core.errors import UserError
from slm.model.gpt import IGNORED
from slm.train.distributed import own_share
from slm.train.params import TrainParams
from slm.train.schedule import MOST_PIECES, n_pieces

Batch = tuple[Tensor, Tensor]  # inputs and targets


class Batches(Protocol):
    """What a model is trained on: inputs and targets (B, T), those to ignore being IGNORED."""

    n_targets: int  # that an epoch has

    def training(self, step: int) -> Batch:
        """Those of a step (counted from 0), whether or not others were asked for."""

    def validation(self) -> Iterator[Batch]:
        """This process's share of those to look at now and then, the same ones each time."""


class Windows:
    """What pretraining sees: windows of the tokens of both splits, one-dimensional arrays.

    Raises UserError if a split is empty, or windows cannot be cut for the length warm-up.
    """

    def __init__(self, train: np.ndarray, validation: np.ndarray, block_size: int, params: TrainParams):
        for name, tokens in (("training", train), ("validation", validation)):
            if not len(tokens):
                raise UserError(f"the {name} split is empty; it needs at least one token")
        if params.seq_len_warmup_steps and block_size % MOST_PIECES:
            raise UserError(
                f"model.block_size: must be a multiple of {MOST_PIECES} with train.seq_len_warmup_steps, "
                f"got {block_size}"
            )
        self._train, self._validation, self._block_size, self._params = train, validation, block_size, params
        self.n_targets = len(train)

    def training(self, step: int) -> Batch:
        params = self._params
        n_rows, pieces = params.batch_size * params.grad_accum_steps, n_pieces(step, params)
        return training_batch(self._train, self._block_size, n_rows, params.seed, step, pieces)

    def validation(self) -> Iterator[Batch]:
        """About `eval_tokens` tokens, spread over the split."""
        chosen = own_share(validation_windows(self._validation, self._block_size, self._params.eval_tokens))
        for first in range(0, len(chosen), self._params.batch_size):
            part = chosen[first : first + self._params.batch_size]
            yield validation_batch(self._validation, self._block_size, part)


def training_batch(
    tokens: np.ndarray, block_size: int, batch_size: int, seed: int, step: int, n_pieces: int = 1
) -> Batch:
    """Inputs and targets (B, T) of one step (counted from 0), both int64.

    With n_pieces each window is cut into so many, which know nothing of each other: (B · n, T / n).
    """
    n_windows = windows_in(tokens, block_size)
    epochs, within = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), n_windows)
    starts = np.empty(batch_size, dtype=np.int64)
    offsets = np.empty(batch_size, dtype=np.int64)
    for epoch in np.unique(epochs):  # mostly one, at times two
        offset, order = _epoch(len(tokens), n_windows, seed, int(epoch))
        rows = epochs == epoch
        starts[rows] = order[within[rows]] * block_size
        offsets[rows] = offset
    inputs, targets = _gather(tokens, block_size, starts, offsets)
    return inputs.view(-1, block_size // n_pieces), targets.view(-1, block_size // n_pieces)


def validation_windows(tokens: np.ndarray, block_size: int, n_tokens: int) -> np.ndarray:
    """Indices of windows with about `n_tokens` targets, spread evenly over the split; 0 is all of them."""
    n_windows = windows_in(tokens, block_size)
    n_chosen = min(n_windows, -(-n_tokens // block_size)) or n_windows
    return np.arange(n_chosen) * n_windows // n_chosen


def validation_batch(tokens: np.ndarray, block_size: int, windows: np.ndarray) -> Batch:
    """Inputs and targets (B, T) of the windows at these indices, of a ring that is cut at its first token."""
    return _gather(tokens, block_size, windows * block_size, np.zeros_like(windows))


def windows_in(tokens: np.ndarray, block_size: int) -> int:
    """How many windows make an epoch."""
    return -(-len(tokens) // block_size)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Copy a batch to the device; to a GPU without waiting for it."""
    if device.type != "cuda":
        return batch[0].to(device), batch[1].to(device)
    inputs, targets = (part.pin_memory().to(device, non_blocking=True) for part in batch)
    return inputs, targets


@lru_cache(maxsize=2)
def _epoch(n_tokens: int, n_windows: int, seed: int, epoch: int) -> tuple[int, np.ndarray]:
    """Where this epoch cuts the ring, and the order of its windows."""
    random = np.random.default_rng([seed, epoch])
    return int(random.integers(n_tokens)), random.permutation(n_windows)


def _gather(tokens: np.ndarray, block_size: int, starts: np.ndarray, offsets: np.ndarray) -> Batch:
    """The windows whose first target lies `start` tokens after `offset` on the ring."""
    positions = starts[:, None] + np.arange(-1, block_size)  # (B, T + 1): T targets and the token before them
    found = torch.from_numpy(tokens[(offsets[:, None] + positions) % len(tokens)].astype(np.int64))
    inputs, targets = found[:, :-1], found[:, 1:]
    wrapped = torch.from_numpy(positions[:, 1:] >= len(tokens))  # once around: the first window has these
    return inputs.contiguous(), targets.masked_fill(wrapped, IGNORED)
