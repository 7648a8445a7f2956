"""Device, data type and compilation settings.

`SLM_DEVICE` chooses the device: `auto` (default: a GPU if there is one), `cpu`, `cuda`, `cuda:1`, `mps`.
`SLM_THREADS` sets the number of CPU threads; the default is PyTorch's, one per core.
`LOCAL_RANK`, which torchrun sets, chooses the GPU of this rank.
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

# Options of mallopt(3), from malloc.h of the GNU C library.
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1
MAX_INT = 2**31 - 1


def setup_torch(deterministic: bool = False) -> torch.device:
    """Configure PyTorch from the environment and return the device.

    With `deterministic`, GPU kernels whose results depend on the order of additions are replaced by slower
    ones, or raise RuntimeError if there are none; the CPU is always deterministic. Raises UserError if the
    device does not exist.
    """
    _set_threads()
    device = pick_device()
    if device.type == "cuda":
        # `set_device` needs an index, which `cuda` does not have.
        torch.cuda.set_device(device.index or 0)
        # TF32 for float32 matrix products.
        torch.set_float32_matmul_precision("high")
        if deterministic:
            # cuBLAS reads this when it starts.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(deterministic)
    return device


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for the tensors of the next step.

    By default the GNU C library returns large blocks to the system and gets them back as new pages, which are
    filled with zeros on first touch. That takes a quarter of the training time of a small model on a CPU
    (benchmarks/RESULTS.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, MAX_INT)
        mallopt(M_TRIM_THRESHOLD, MAX_INT)


def pick_device() -> torch.device:
    """Return the device that the environment chooses. Raises UserError if it does not exist."""
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return _device(os.environ.get("SLM_DEVICE", "auto"), n_cuda, os.environ.get("LOCAL_RANK"))


def device_properties(device: torch.device) -> dict[str, Any]:
    """Return the properties of this machine that can change the last bits of a result."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device)}
    capability = torch.backends.cpu.get_cpu_capability()
    return {"device": device.type, "cpu": capability, "threads": torch.get_num_threads()}


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the data type of matrix products; `auto` is the fastest that the device trains well in.

    Raises UserError for a type that the device cannot train in.
    """
    supported = _dtypes(device)
    if name == "auto":
        name = supported[0]
    if name not in supported:
        choices = ", ".join(["auto", *supported])
        raise UserError(f"train.dtype: must be one of {choices} on {device}, got {name!r}")
    return getattr(torch, name)


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Return a context that computes matrix products in `dtype` (Micikevicius et al. 2018)."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def should_compile(choice: Literal["auto"] | bool, device: torch.device) -> bool:
    """Return whether to compile the model; `auto` does on CUDA with a C compiler and Triton."""
    if choice != "auto":
        return choice
    has_compiler = any(shutil.which(name) for name in ("cc", "gcc", "clang"))
    return device.type == "cuda" and has_compiler and importlib.util.find_spec("triton") is not None


def _device(name: str, n_cuda: int, local_rank: str | None) -> torch.device:
    # The best device first.
    available = ["cuda"] * (n_cuda > 0) + [f"cuda:{i}" for i in range(n_cuda)]
    available += ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    if name == "auto":
        name = available[0]
    if name == "cuda" and local_rank is not None:
        name = f"cuda:{local_rank}"
    if name not in available:
        choices = ", ".join(["auto", *available])
        raise UserError(f"SLM_DEVICE: must be one of {choices} on this machine, got {name!r}")
    return torch.device(name)


def _set_threads() -> None:
    threads = os.environ.get("SLM_THREADS")
    if threads is None:
        return
    if not re.fullmatch(r"[1-9]\d{0,3}", threads):
        raise UserError(f"SLM_THREADS: must be an integer from 1 to 9999, got {threads!r}")
    torch.set_num_threads(int(threads))


def _dtypes(device: torch.device) -> list[str]:
    """Return the types that a device can train in, the best first."""
    if device.type == "cpu":
        return ["float32", "bfloat16"]
    if device.type == "cuda":
        with torch.cuda.device(device):
            has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return ["bfloat16", "float16", "float32"] if has_bfloat16 else ["float16", "float32"]
    return ["float32"]
