"""Reference implementations for the benchmarks, nanoGPT and GPT-2 of `transformers`, and helpers for timing.

nanoGPT is imported from a checkout (github.com/karpathy/nanoGPT). Its model.py and optimizer are trained like
in its train.py. Its model equals this project's GPT-2 without biases, except that its GELU is exact. GPT-2 of
`transformers` comes without a training recipe, so it uses the one of nanoGPT.

Shapes: B sequences, T tokens in each, V = vocab_size.
"""

import contextlib
import importlib.util
import io
import math
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slm.core.errors import UserError
from slm.model.device import autocast, setup_torch
from slm.train.data import Batch, to_device, to_rank
from slm.train.state import TrainState
from slm.train.trainer import train_step

# Values of nanoGPT's train.py.
SEED = 1337
BETA1, WEIGHT_DECAY, GRAD_CLIP = 0.9, 0.1, 1.0
# Warm-up as a fraction of all steps: 100 of 2,000 in the CPU example of nanoGPT's readme.
WARMUP = 0.05
# Final learning rate as a fraction of the peak.
MIN_LR = 0.1


class Shape(NamedTuple):
    """The sizes of a GPT."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    vocab_size: int


def new_nanogpt(checkout: Path, shape: Shape) -> nn.Module:
    """Return a new nanoGPT model, which maps ids and targets (B, T) to logits (B, T, V) and their mean loss.

    Raises UserError if `checkout` does not contain nanoGPT.
    """
    path = checkout / "model.py"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `git clone https://github.com/karpathy/nanoGPT`")
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Suppress its output.
    with contextlib.redirect_stdout(io.StringIO()):
        return module.GPT(module.GPTConfig(**shape._asdict(), dropout=0.0, bias=False))


class GPT2(nn.Module):
    """GPT-2 of `transformers` with the interface of nanoGPT's model."""

    def __init__(self, shape: Shape):
        super().__init__()
        # Importing transformers is slow, so do it only when needed.
        from transformers import GPT2Config, GPT2LMHeadModel

        names = {"n_positions": shape.block_size, **shape._asdict()}
        del names["block_size"]
        no_dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        # The default ids are outside of a small vocabulary.
        special_tokens = dict.fromkeys(("bos_token_id", "eos_token_id"), 0)
        self.gpt2 = GPT2LMHeadModel(GPT2Config(**names, **no_dropout, **special_tokens, use_cache=False))

    def forward(self, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.gpt2(ids).logits
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class ReferenceTrainer:
    """A reference implementation with the training step of nanoGPT."""

    def __init__(
        self,
        implementation: Literal["nanogpt", "transformers"],
        shape: Shape,
        checkout: Path | None = None,
        compiled: bool = False,
        dtype: str = "auto",
        beta2: float = 0.95,
    ):
        self.device = setup_torch()
        # nanoGPT's train.py ignores the dtype on a CPU.
        if dtype == "auto":
            dtype = "bfloat16" if self.device.type == "cuda" else "float32"
        self.dtype = getattr(torch, dtype)
        torch.manual_seed(SEED)
        if implementation == "nanogpt":
            assert checkout
            self.model = new_nanogpt(checkout, shape).to(self.device)
            with contextlib.redirect_stdout(io.StringIO()):
                self.optimizer = self.model.configure_optimizers(
                    WEIGHT_DECAY, 1.0, (BETA1, beta2), self.device.type
                )
        else:
            self.model = GPT2(shape).to(self.device)
            self.optimizer = _adamw(self.model, beta2)
        self.train_model = torch.compile(self.model) if compiled else self.model

    def step(self, batch: Batch, lr: float) -> Tensor:
        """Take a training step with gradient clipping, and return the mean loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.model.train()
        inputs, targets, _ = to_device(batch, self.device)
        with autocast(self.device, self.dtype):
            _, loss = self.train_model(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), GRAD_CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def logits(self, ids: Tensor) -> Tensor:
        """Return the logits (B, T, V)."""
        # Without targets nanoGPT returns only the logits of the last position.
        return self.model(ids, ids)[0]


def run_step(trainer: TrainState | ReferenceTrainer, batch: Batch, lr: float) -> None:
    """Take a training step with this project or a reference implementation."""
    if isinstance(trainer, TrainState):
        train_step(trainer, to_rank(batch, trainer.device), lr)
    else:
        trainer.step(batch, lr)


def _adamw(model: nn.Module, beta2: float) -> torch.optim.Optimizer:
    """Return fused AdamW, the default of the transformers Trainer, with weight decay for matrices only."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(BETA1, beta2), fused=True)


def nanogpt_learning_rate(step: int, n_steps: float, peak: float) -> float:
    """Return nanoGPT's learning rate at a step, counted from 0: linear warm-up, then cosine decay."""
    warmup = int(WARMUP * n_steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(n_steps - warmup, 1))
    return peak * (MIN_LR + (1 - MIN_LR) * (1 + math.cos(math.pi * progress)) / 2)


def nanogpt_batch(tokens: Any, block_size: int, batch_size: int) -> Batch:
    """Return inputs and targets (B, T) like nanoGPT's get_batch: windows at random positions of the ids."""
    starts = torch.randint(len(tokens) - block_size, (batch_size,)).tolist()
    windows = [torch.from_numpy(tokens[i : i + block_size + 1].astype("int64")) for i in starts]
    ids = torch.stack(windows)
    return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), batch_size * block_size)


def synchronize(device: torch.device) -> None:
    """Wait for the device, because CUDA kernels run asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe_machine(*packages: str) -> str:
    """Return the processor, cores, GPU, threads, Python version and versions of packages as text."""
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    # Linux states the model of the processor there.
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        cpu = models[0] if models else cpu
    device = setup_torch()
    gpu = [torch.cuda.get_device_name(device)] if device.type == "cuda" else []
    hardware = [cpu, f"{os.cpu_count()} cores", *gpu, f"{torch.get_num_threads()} threads of torch"]
    versions = [f"{name} {version(name)}" for name in ("torch", *packages)]
    return ", ".join([*hardware, f"Python {platform.python_version()}", *versions])
