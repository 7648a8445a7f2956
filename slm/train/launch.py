"""The processes of a training: started by the first, or all by torchrun.

`SLM_PROCESSES` is how many this machine starts: one for each GPU unless it is set. The first then is the
stage itself. It starts the others with the variables that torchrun would set, so that each finds the rest.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
import torch.distributed as dist

from slm.core.errors import UserError
from slm.model.device import pick_device
from slm.train.distributed import any_rank, in_contact, is_first

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}  # for tensors on the CPU it is always gloo
LOOPBACK = "127.0.0.1"
STARTED_BY = "SLM_STARTED_BY"  # the first process's id, in the environment of those that it starts
ORDERLY = (None, 0, 130)  # statuses: at work, done, told to stop
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_NOTICE = 10.0  # that another process is gone, without help
SECONDS_TO_END = 5.0


@contextmanager
def together(n_rows: int, module: str) -> Iterator[bool]:
    """Within this context the processes of a training are connected, to share the `n_rows` of each step.

    It gives whether this is the first, which starts the others, each as `python -m module`, unless torchrun
    has. A process by itself needs nothing of this. Raises UserError for a number that is not possible.
    """
    device = pick_device()
    is_started = "RANK" in os.environ  # by torchrun, or by the first
    n = int(os.environ["WORLD_SIZE"]) if is_started else how_many(n_rows, *_usual_and_most(device))
    if n == 1:
        yield True
        return
    if device.type not in BACKENDS:
        raise UserError(f"SLM_DEVICE: must be cpu or cuda for {n} processes, got {device}")
    if n_rows % n:
        raise UserError(
            f"train.batch_size × train.grad_accum_steps: must be a multiple of {n}, the number of processes, "
            f"got {n_rows}"
        )
    with _following() if is_started else _leading(n, module):
        with in_contact():
            dist.init_process_group(BACKENDS[device.type])
        yield is_first()
        any_rank(True)  # none leaves before all are done
        dist.destroy_process_group()


def how_many(n_rows: int, usual: int, most: int) -> int:
    """What SLM_PROCESSES asks for; otherwise as many as can share the rows, up to the usual."""
    allowed = [n for n in range(1, most + 1) if n_rows % n == 0]
    asked = os.environ.get("SLM_PROCESSES")
    if asked is None:
        n = max(n for n in allowed if n <= usual)
        if n < usual:
            reason = f"{n_rows} sequences per step must divide evenly"
            print(f"training: using {n} of {usual} GPUs: {reason}", file=sys.stderr)
        return n
    if asked not in map(str, allowed):
        raise UserError(
            f"SLM_PROCESSES: must be one of {', '.join(map(str, allowed))}, which divide "
            f"train.batch_size × train.grad_accum_steps = {n_rows}, got {asked!r}"
        )
    return int(asked)


def _usual_and_most(device: torch.device) -> tuple[int, int]:
    """How many processes train on this machine unless told otherwise, and at most."""
    if device.type == "cuda" and device.index is None and dist.is_nccl_available():
        return torch.cuda.device_count(), torch.cuda.device_count()
    return 1, (os.cpu_count() or 1) if device.type == "cpu" else 1


@contextmanager
def _leading(n: int, module: str) -> Iterator[None]:
    """Start the others; end them in any case, and this one if one of them fails."""
    os.environ |= {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(_free_port())}
    os.environ |= {"WORLD_SIZE": str(n), "RANK": "0", "LOCAL_RANK": "0"}
    os.environ.setdefault("SLM_THREADS", str(max(1, torch.get_num_threads() // n)))
    command, others = [sys.executable, "-m", module], []
    try:
        for i in map(str, range(1, n)):
            own = {"RANK": i, "LOCAL_RANK": i, STARTED_BY: str(os.getpid())}
            others.append(subprocess.Popen(command, env={**os.environ, **own}))
        with _ending_if(lambda: any(other.poll() not in ORDERLY for other in others)):
            yield
    finally:
        _end(others)


def _end(others: list[subprocess.Popen[bytes]]) -> None:
    """End processes that may be about to end; say what one cannot say itself."""
    deadline = time.monotonic() + SECONDS_TO_END
    for number, other in enumerate(others, start=2):
        with suppress(subprocess.TimeoutExpired):
            status = other.wait(max(0.0, deadline - time.monotonic()))
            if status < 0:
                line = f"process {number} of {len(others) + 1} was ended by signal {-status}"
                print(f"training: {line}", file=sys.stderr)
        other.kill()
        other.wait()


@contextmanager
def _following() -> Iterator[None]:
    """End if the first is gone that started this one, and leave it to the first to say what is wrong.

    Under torchrun that sees to the former; whoever fails first has to speak, as torchrun then ends the rest.
    """
    if (first := os.environ.get(STARTED_BY)) is None:
        yield
        return
    with _ending_if(lambda: str(os.getppid()) != first):
        try:
            yield
        except (UserError, KeyboardInterrupt) as error:
            sys.exit(1 if isinstance(error, UserError) else 130)


@contextmanager
def _ending_if(is_over: Callable[[], bool]) -> Iterator[None]:
    """Let this process end soon after `is_over`, even if it waits for a message of one that is gone.

    Over gloo it would notice by itself, over nccl it could wait for ever.
    """

    def look() -> None:
        while not left.wait(SECONDS_BETWEEN_LOOKS):
            if is_over() and not left.wait(SECONDS_TO_NOTICE):
                print("error: another process of this training is gone", file=sys.stderr, flush=True)
                os._exit(1)

    left = threading.Event()
    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        left.set()


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as server:
        return server.getsockname()[1]
