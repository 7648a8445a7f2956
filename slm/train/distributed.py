"""Data-parallel training on several ranks (Goyal et al. 2017): start them, exchange tensors, stop together.

Each rank is a process with its own GPU. All hold the same weights; each computes the gradient of its shard of
the batch, and the gradients are summed. The loss curve is that of one process except for rounding. Rank 0
alone reads and writes checkpoints, results and the log. In a single process the functions return what they
are given.

torchrun starts the ranks, or the stage does: `SLM_PROCESSES` is how many this machine starts (default: one
per GPU). The stage then is rank 0, and starts the others with the environment variables that torchrun would
set.

Objects are exchanged as pickles: the ranks of a run trust each other. A lost rank raises UserError.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import psutil
import torch
import torch.distributed as dist
from torch import Tensor

from slm.core.errors import UserError
from slm.model.device import pick_device

T = TypeVar("T")
Sequences = TypeVar("Sequences", Tensor, np.ndarray)

# gloo for tensors on the CPU, nccl for those on GPUs.
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
LOOPBACK = "127.0.0.1"
# Environment variable of the ranks that rank 0 starts: its process id.
STARTED_BY = "SLM_STARTED_BY"
# Running, done, interrupted.
CLEAN_EXIT_CODES = (None, 0, 130)
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
# Seconds.
POLL_INTERVAL = 1.0
LOST_RANK_TIMEOUT = 10.0
EXIT_TIMEOUT = 5.0


def rank() -> int:
    """Return the number of this rank."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def log_rank0(line: str) -> None:
    """Print a line on rank 0."""
    if rank() == 0:
        print(f"training: {line}", file=sys.stderr)


def shard(sequences: Sequences) -> Sequences:
    """Return this rank's part of the sequences; the sizes of the parts differ by at most 1."""
    n, size = len(sequences), world_size()
    return sequences[rank() * n // size : (rank() + 1) * n // size]


def all_reduce_sum(tensors: list[Tensor]) -> None:
    """Replace each tensor by its sum over all ranks, bitwise the same on each."""
    if world_size() == 1:
        return
    # One large message is faster than many small ones.
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    with dist_errors():
        dist.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor))


def any_rank(*flags: bool) -> list[bool]:
    """Return for each flag whether it is set on any rank, without waiting for the GPUs."""
    if world_size() == 1:
        return list(flags)
    on_any = torch.tensor(flags, dtype=torch.uint8)
    with dist_errors():
        dist.all_reduce(on_any, dist.ReduceOp.MAX)
    return [bool(flag) for flag in on_any]


def all_gather(value: T) -> list[T]:
    """Return the values of all ranks, in order."""
    values: list[Any] = [value] * world_size()
    if world_size() > 1:
        with dist_errors():
            dist.all_gather_object(values, value)
    return values


def broadcast_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the CPU tensors of rank 0; those of the other ranks are ignored."""
    if world_size() == 1:
        return tensors
    headers = all_gather({name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()})[0]
    if rank():
        tensors = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in headers.items()}
    with dist_errors():
        for tensor in tensors.values():
            dist.broadcast(tensor, src=0)
    return tensors


@contextmanager
def dist_errors() -> Iterator[None]:
    """Raise UserError in place of the RuntimeError of a lost connection."""
    try:
        yield
    except RuntimeError as error:
        # The first sentence says what happened, the rest is advice.
        reason = re.sub(r"^\[\S+\] ", "", str(error)).splitlines()[0].partition(". ")[0]
        raise UserError(f"lost connection to another rank: {reason}") from error


@contextmanager
def process_group(n_sequences: int, module: str) -> Iterator[bool]:
    """Connect the ranks that share the `n_sequences` of each step; yield whether this is rank 0.

    Unless torchrun has started the ranks, rank 0 starts the others as `python -m module`. Raises UserError if
    the number of ranks does not divide the sequences or the device cannot train in parallel.
    """
    device = pick_device()
    is_started = "RANK" in os.environ
    n_ranks = (
        int(os.environ["WORLD_SIZE"]) if is_started else choose_world_size(n_sequences, *_limits(device))
    )
    if n_ranks == 1:
        yield True
        return
    if device.type not in BACKENDS:
        raise UserError(f"SLM_DEVICE: must be cpu or cuda for {n_ranks} processes, got {device}")
    if n_sequences % n_ranks:
        raise UserError(
            f"train.batch_size × train.grad_accum_steps: must be a multiple of {n_ranks}, the number of "
            f"processes, got {n_sequences}"
        )
    with _joined() if is_started else _launched(n_ranks, module):
        with dist_errors():
            dist.init_process_group(BACKENDS[device.type])
        yield rank() == 0
        # Wait for all ranks before any of them leaves.
        any_rank(True)
        dist.destroy_process_group()


def choose_world_size(n_sequences: int, default: int, maximum: int) -> int:
    """Return SLM_PROCESSES, or the largest number up to the default that divides the sequences."""
    choices = [n for n in range(1, maximum + 1) if n_sequences % n == 0]
    requested = os.environ.get("SLM_PROCESSES")
    if requested is None:
        n_ranks = max(n for n in choices if n <= default)
        if n_ranks < default:
            reason = f"{n_sequences} sequences per step must divide evenly"
            print(f"training: using {n_ranks} of {default} GPUs: {reason}", file=sys.stderr)
        return n_ranks
    if requested not in map(str, choices):
        raise UserError(
            f"SLM_PROCESSES: must be one of {', '.join(map(str, choices))}, which divide "
            f"train.batch_size × train.grad_accum_steps = {n_sequences}, got {requested!r}"
        )
    return int(requested)


def _limits(device: torch.device) -> tuple[int, int]:
    """Return the default and the maximum number of ranks on this machine."""
    if device.type == "cuda" and device.index is None and dist.is_nccl_available():
        return torch.cuda.device_count(), torch.cuda.device_count()
    return 1, (os.cpu_count() or 1) if device.type == "cpu" else 1


@contextmanager
def _launched(n_ranks: int, module: str) -> Iterator[None]:
    """Start the other ranks; stop them at the end, and exit this process if one of them fails."""
    os.environ |= {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(_free_port())}
    os.environ |= {"WORLD_SIZE": str(n_ranks), "RANK": "0", "LOCAL_RANK": "0"}
    os.environ.setdefault("SLM_THREADS", str(max(1, torch.get_num_threads() // n_ranks)))
    command, others = [sys.executable, "-m", module], []
    try:
        for i in map(str, range(1, n_ranks)):
            variables = {"RANK": i, "LOCAL_RANK": i, STARTED_BY: str(os.getpid())}
            others.append(subprocess.Popen(command, env={**os.environ, **variables}))
        with _exit_when(lambda: any(other.poll() not in CLEAN_EXIT_CODES for other in others)):
            yield
    finally:
        _stop(others)


def _stop(others: list[subprocess.Popen[bytes]]) -> None:
    """Wait for ranks that are about to exit, then kill them; report those that a signal ended."""
    deadline = time.monotonic() + EXIT_TIMEOUT
    for number, other in enumerate(others, start=1):
        with suppress(subprocess.TimeoutExpired):
            status = other.wait(max(0.0, deadline - time.monotonic()))
            if status < 0:
                print(f"training: rank {number} was ended by signal {-status}", file=sys.stderr)
        other.kill()
        other.wait()


@contextmanager
def _joined() -> Iterator[None]:
    """Exit if rank 0 is gone, and leave it to rank 0 to report errors.

    torchrun stops the ranks itself, and the first that fails must report why.
    """
    if (parent := os.environ.get(STARTED_BY)) is None:
        yield
        return
    with _exit_when(lambda: str(os.getppid()) != parent):
        try:
            yield
        except (UserError, KeyboardInterrupt) as error:
            sys.exit(1 if isinstance(error, UserError) else 130)


@contextmanager
def _exit_when(is_lost: Callable[[], bool]) -> Iterator[None]:
    """Exit soon after another rank is lost, even while waiting for its message.

    gloo notices a lost rank by itself, nccl may wait forever.
    """

    def watch() -> None:
        while not done.wait(POLL_INTERVAL):
            if is_lost() and not done.wait(LOST_RANK_TIMEOUT):
                print("error: lost connection to another rank", file=sys.stderr, flush=True)
                os._exit(1)

    done = threading.Event()
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as server:
        return server.getsockname()[1]


class StopSignal:
    """Context manager that records a request to stop, so that the current step can finish.

    Requests are a signal, or the death of the parent: killing dvc or torchrun leaves its stages running,
    which would hold the checkpoints and write outputs that nobody waits for. A second signal acts at once.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._parent = _parent()
        self._next_poll = 0.0

    def __enter__(self) -> "StopSignal":
        # nohup and background jobs ignore some signals; they stay ignored.
        numbers = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._handlers = {number: signal.getsignal(number) for number in numbers}
        for number in self._handlers:
            signal.signal(number, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def reason(self) -> str | None:
        """Return the reason to stop, or None."""
        if self._signal is not None:
            return signal.Signals(self._signal).name
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + POLL_INTERVAL
            if self._parent is not None and not _is_alive(self._parent):
                return "parent process exited"
        return None

    def _record(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self.__exit__()


def _parent() -> psutil.Process | None:
    """Return the dvc or torchrun process that started this stage.

    dvc is the nearest ancestor without DVC_STAGE in its environment, because a shell may lie between.
    """
    with suppress(psutil.Error):
        if "DVC_STAGE" in os.environ:
            for process in psutil.Process().parents():
                if "DVC_STAGE" not in process.environ():
                    return process
        elif "TORCHELASTIC_RUN_ID" in os.environ:
            return psutil.Process().parent()
    return None


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
