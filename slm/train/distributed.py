"""What the processes of a training exchange (data parallel; Goyal et al. 2017).

There is a process for each GPU; its number among all, on whatever machine, is its rank. All hold the same
weights. Each adds up the gradient over its own rows, the gradients of all are summed, and all take the same
step: the loss curve is that of one process but for the last digits. The first process, of rank 0, alone
reads and writes states, results and the log. A process by itself has nothing to exchange: to it, the
functions here give back what they get.

Each raises UserError if another process is gone. What travels as an object travels as a pickle: the
processes of a training trust each other.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from slm.core.errors import UserError

T = TypeVar("T")
Rows = TypeVar("Rows", Tensor, np.ndarray)


def rank() -> int:
    """This process's number; the first's is 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def n_ranks() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    return rank() == 0


def say(line: str) -> None:
    """Tell the user, once."""
    if is_first():
        print(f"training: {line}", file=sys.stderr)


def own_share(rows: Rows) -> Rows:
    """This process's part of the rows; the parts of all differ by a row at most."""
    return rows[rank() * len(rows) // n_ranks() : (rank() + 1) * len(rows) // n_ranks()]


def sum_over_ranks(tensors: list[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, the same to the last bit in each of them.

    They travel as one, which is quick. DistributedDataParallel would send some while the backward pass goes
    on, but takes means where sums are needed, and wraps the model to do so.
    """
    if n_ranks() == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with in_contact():
        dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def any_rank(*flags: bool) -> list[bool]:
    """For each flag whether it is set in any process. It waits for the processes, not for their GPUs."""
    if n_ranks() == 1:
        return list(flags)
    found = torch.tensor(flags, dtype=torch.uint8)
    with in_contact():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return [bool(flag) for flag in found]


def gathered(value: T) -> list[T]:
    """The values of all processes, by rank."""
    values: list[Any] = [value] * n_ranks()
    if n_ranks() > 1:
        with in_contact():
            dist.all_gather_object(values, value)
    return values


def from_first(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first process's tensors, which are on the CPU; what the others give is of no account."""
    if n_ranks() == 1:
        return tensors
    outline = gathered({name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()})[0]
    if not is_first():
        tensors = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in outline.items()}
    with in_contact():
        for tensor in tensors.values():
            dist.broadcast(tensor, src=0)
    return tensors


@contextmanager
def in_contact() -> Iterator[None]:
    """What torch says when another process has ended, and with it the connection, is a UserError."""
    try:
        yield
    except RuntimeError as error:
        why = re.sub(r"^\[\S+\] ", "", str(error)).splitlines()[0].partition(". ")[0]  # more is advice
        raise UserError(f"another process of this training is gone or cannot be reached: {why}") from error
