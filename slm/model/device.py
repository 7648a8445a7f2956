"""What the model runs on: the device, the number of threads, the type of its matrix products.

`SLM_DEVICE` chooses the device: `auto` (the default: a GPU if there is one), `cpu`, `cuda`, `cuda:1`, `mps`.
`SLM_THREADS` is the number of CPU threads; as many as there are cores unless it is set.
`LOCAL_RANK` says which of the GPUs is this process's where there are several processes; torchrun sets it.
"""

import ctypes
import importlib.util
import os
import re
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from slm.core.errors import UserError

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # as malloc.h of the GNU C library has them
MOST = 2**31 - 1


def setup_torch(deterministic: bool = False) -> torch.device:
    """Set torch up as the environment says and return the device. Raises UserError for what is not there.

    `deterministic` takes slower ways on a GPU where the fast ones add up in any order; a CPU has only the
    former. What has no such way raises RuntimeError when it is met.
    """
    _set_threads()
    device = pick_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TF32 (10 bits of mantissa) in float32 matrix products
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
        torch.use_deterministic_algorithms(deterministic)
    return device


def keep_memory() -> None:
    """Have the C library keep what tensors leave, for the tensors of the next step.

    It would give large pieces back to the system and get them again as new pages, each filled with zeros at
    its first touch: a quarter of a small model's time on a CPU (benchmarks/RESULTS.md). Only the GNU library
    is known to do so, and to have a way to be told.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(MMAP_THRESHOLD, MOST)
        mallopt(TRIM_THRESHOLD, MOST)


def pick_device() -> torch.device:
    """The device that the environment chooses. Raises UserError for one that is not there."""
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return _device(os.environ.get("SLM_DEVICE", "auto"), n_cuda, os.environ.get("LOCAL_RANK"))


def fingerprint(device: torch.device) -> dict[str, Any]:
    """What of this machine can change the last bits of a result."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device)}
    capability = torch.backends.cpu.get_cpu_capability()
    return {"device": device.type, "cpu": capability, "threads": torch.get_num_threads()}


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The type of matrix products; `auto` is the fastest that the device is good at.

    Raises UserError for a type that the device cannot train in.
    """
    allowed = _dtypes(device)
    if name == "auto":
        name = allowed[0]
    if name not in allowed:
        choices = ", ".join(["auto", *allowed])
        raise UserError(f"train.dtype: must be one of {choices} on {device}, got {name!r}")
    return getattr(torch, name)


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """A context in which matrix products are computed in `dtype` (Micikevicius et al. 2018)."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def should_compile(choice: Literal["auto"] | bool, device: torch.device) -> bool:
    """Whether to compile the model; `auto` does where it pays: on CUDA, if what compiling needs is there."""
    if choice != "auto":
        return choice
    has_compiler = any(shutil.which(name) for name in ("cc", "gcc", "clang"))
    return device.type == "cuda" and has_compiler and importlib.util.find_spec("triton") is not None


def _device(name: str, n_cuda: int, local_rank: str | None) -> torch.device:
    found = ["cuda"] * (n_cuda > 0) + [f"cuda:{i}" for i in range(n_cuda)]
    found += ["mps"] * torch.backends.mps.is_available() + ["cpu"]  # the best first
    if name == "auto":
        name = found[0]
    if name == "cuda" and local_rank is not None:
        name = f"cuda:{local_rank}"
    if name not in found:
        choices = ", ".join(["auto", *found])
        raise UserError(f"SLM_DEVICE: must be one of {choices} on this machine, got {name!r}")
    return torch.device(name)


def _set_threads() -> None:
    threads = os.environ.get("SLM_THREADS")
    if threads is None:
        return
    if not re.fullmatch(r"[1-9]\d{0,3}", threads):
        raise UserError(f"SLM_THREADS: must be a whole number from 1 to 9999, got {threads!r}")
    torch.set_num_threads(int(threads))


def _dtypes(device: torch.device) -> list[str]:
    """The types a device can train in, the best first."""
    if device.type == "cpu":
        return ["float32", "bfloat16"]
    if device.type == "cuda":
        with torch.cuda.device(device):
            has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return ["bfloat16", "float16", "float32"] if has_bfloat16 else ["float16", "float32"]
    return ["float32"]
