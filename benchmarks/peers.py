"""What the benchmarks compare with: nanoGPT and GPT-2 of `transformers`; and the machine they run on.

nanoGPT is read from a checkout (github.com/karpathy/nanoGPT): its own model.py with its own optimizer, and
trained as its train.py does. The model is this project's classic one without biases, but that its GELU is
exact. The GPT-2 of `transformers` has no recipe of its own and is trained so, too.

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
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slm.core.errors import UserError
from slm.model.device import autocast, setup_torch
from slm.train.data import Batch, to_device
from slm.train.state import TrainState
from slm.train.trainer import train_step

SEED = 1337  # of nanoGPT's train.py, as are these
BETA1, WEIGHT_DECAY, GRAD_CLIP = 0.9, 0.1, 1.0
WARMUP = 0.05  # of all steps: 100 of 2,000 in the CPU example of its readme
LEAST_RATE = 0.1  # of the highest learning rate


class Shape(NamedTuple):
    """The sizes of a GPT."""

    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    vocab_size: int


def nanogpt(checkout: Path, shape: Shape) -> nn.Module:
    """A new model of nanoGPT's: ids and targets (B, T) in, logits (B, T, V) and their mean loss out."""
    path = checkout / "model.py"
    if not path.is_file():
        raise UserError(f"{path}: no such file; git clone https://github.com/karpathy/nanoGPT")
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    assert spec and spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        return module.GPT(module.GPTConfig(**shape._asdict(), dropout=0.0, bias=False))


class GPT2(nn.Module):
    """A new GPT-2 of `transformers`, called as nanoGPT's model is."""

    def __init__(self, shape: Shape):
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel  # takes its time

        names = {"n_positions": shape.block_size, **shape._asdict()}
        del names["block_size"]
        no_dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        ends = dict.fromkeys(("bos_token_id", "eos_token_id"), 0)  # must lie in the vocabulary
        self.gpt2 = GPT2LMHeadModel(GPT2Config(**names, **no_dropout, **ends, use_cache=False))

    def forward(self, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.gpt2(ids).logits
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Peer:
    """A model of others with nanoGPT's way of training it; see `update`."""

    def __init__(
        self,
        side: str,
        shape: Shape,
        checkout: Path | None = None,
        compiled: bool = False,
        dtype: str = "auto",
        beta2: float = 0.95,
    ):
        self.device = setup_torch()
        if dtype == "auto":  # its train.py takes no notice of dtype on a CPU
            dtype = "bfloat16" if self.device.type == "cuda" else "float32"
        self.dtype = getattr(torch, dtype)
        torch.manual_seed(SEED)
        if side == "nanogpt":
            assert checkout
            self.model = nanogpt(checkout, shape).to(self.device)
            with contextlib.redirect_stdout(io.StringIO()):
                self.optimizer = self.model.configure_optimizers(
                    WEIGHT_DECAY, 1.0, (BETA1, beta2), self.device.type
                )
        else:
            self.model = GPT2(shape).to(self.device)
            self.optimizer = _adamw(self.model, beta2)
        self.train_model = torch.compile(self.model) if compiled else self.model

    def step(self, batch: Batch, lr: float) -> Tensor:
        """Forward, backward, clip, optimizer; give the mean loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.model.train()
        inputs, targets = to_device(batch, self.device)
        with autocast(self.device, self.dtype):
            _, loss = self.train_model(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), GRAD_CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def logits(self, ids: Tensor) -> Tensor:
        """(B, T, V)"""
        return self.model(ids, ids)[0]  # without targets nanoGPT gives the last ones only


def update(side: TrainState | Peer, batch: Batch, lr: float) -> None:
    """Take a training step."""
    if isinstance(side, TrainState):
        train_step(side, batch, lr)
    else:
        side.step(batch, lr)


def _adamw(model: nn.Module, beta2: float) -> torch.optim.Optimizer:
    """AdamW as the Trainer of `transformers` has it by default (fused); weight decay is for matrices."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(BETA1, beta2), fused=True)


def nanogpt_rate(step: int, n_steps: float, highest: float) -> float:
    """Its learning rate at a step (counted from 0): a linear warm-up, then half a cosine."""
    warmup = int(WARMUP * n_steps)
    if step < warmup:
        return highest * (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(n_steps - warmup, 1))
    return highest * (LEAST_RATE + (1 - LEAST_RATE) * (1 + math.cos(math.pi * done)) / 2)


def nanogpt_batch(tokens: Any, block_size: int, batch_size: int) -> tuple[Tensor, Tensor]:
    """Its batch: windows of an array of ids that start anywhere; inputs and targets (B, T)."""
    starts = torch.randint(len(tokens) - block_size, (batch_size,)).tolist()
    rows = [torch.from_numpy(tokens[i : i + block_size + 1].astype("int64")) for i in starts]
    found = torch.stack(rows)
    return found[:, :-1].contiguous(), found[:, 1:].contiguous()


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that the clock shows what has been done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine(*packages: str) -> str:
    """What figures were taken on: processor, cores, GPU, threads, Python, and versions of packages."""
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():  # on Linux, which says more there
        lines = info.read_text(encoding="utf-8").splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        cpu = models[0] if models else cpu
    device = setup_torch()
    gpu = [torch.cuda.get_device_name(device)] if device.type == "cuda" else []
    what = [cpu, f"{os.cpu_count()} cores", *gpu, f"{torch.get_num_threads()} threads of torch"]
    versions = [f"{name} {version(name)}" for name in ("torch", *packages)]
    return ", ".join([*what, f"Python {platform.python_version()}", *versions])
