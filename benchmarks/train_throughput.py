"""Measure training throughput: this project and nanoGPT with models of equal sizes.

    python -m benchmarks.train_throughput --nanogpt CHECKOUT [--dtype auto] [--rounds 5] [--steps 4]

A step consists of forward and backward pass, gradient clipping and optimizer. The first steps, which compile
the model, do not count. The implementations and a matrix product are measured in interleaved rounds, and the
medians are compared. All share one process, so nanoGPT also profits from `keep_freed_memory`
(slm/model/device.py).

FLOPs per token are 6N + 12·L·C·T (Chowdhery et al. 2022, appendix B) with N parameters except for embeddings
that are only looked up, L layers, C channels and T tokens of context. Utilization is the FLOP/s relative to
the product of two 2048 × 2048 matrices of the same dtype. nanoGPT pads GPT-2's vocabulary to 50,304, like its
train.py. The RoPE model with Muon is shown for information. Other params are those of params.yaml.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.references import ReferenceTrainer, Shape, describe_machine, run_step, synchronize
from slm.core.errors import run_command
from slm.model.device import setup_torch
from slm.model.gpt import count_params
from slm.model.params import ModelParams
from slm.train.data import Batch
from slm.train.params import TrainParams
from slm.train.state import TrainState

# nanoGPT pads the vocabulary of GPT-2 to a multiple of 64.
GPT2_VOCAB_SIZE, PADDED_VOCAB_SIZE = 50_257, 50_304
# Model sizes and batch sizes, by layers × heads × channels.
SIZES = {
    "4 × 4 × 128": (Shape(n_layer=4, n_head=4, n_embd=128, block_size=256, vocab_size=4096), 16),
    "4 × 4 × 256": (Shape(n_layer=4, n_head=4, n_embd=256, block_size=256, vocab_size=4096), 16),
    "6 × 6 × 384": (Shape(n_layer=6, n_head=6, n_embd=384, block_size=128, vocab_size=GPT2_VOCAB_SIZE), 8),
}
# Architecture by name in the table; None: the reference.
MODELS = {"this project, gpt2": "gpt2", "nanoGPT": None, "this project, rope": "rope"}
# Rows and columns of the matrices whose product is measured.
MATRIX_SIZE = 2048
WARMUP_STEPS = 3


class Throughput(NamedTuple):
    """Medians over the rounds."""

    tokens_per_second: float
    flops_per_token: int
    matmul_flops_per_second: float


def new_state(architecture: str, shape: Shape, batch_size: int, dtype: str, compiled: bool) -> TrainState:
    """Return a training state of this project with nanoGPT's recipe, or with Muon for a RoPE model."""
    sizes = {name: size for name, size in shape._asdict().items() if name != "vocab_size"}
    changes = {"architecture": architecture, "n_kv_head": None, "dropout": 0.0, "bias": False}
    model = ModelParams.load().model_copy(update=sizes | changes)
    optimizer = "muon" if architecture == "rope" else "adamw"
    changes = {"batch_size": batch_size, "optimizer": optimizer, "dtype": dtype, "compile": compiled}
    changes |= {"grad_accum_steps": 1, "grad_clip": 1.0, "weight_decay": 0.1, "deterministic": False}
    params = TrainParams.load().model_copy(update=changes)
    return TrainState(model, params, shape.vocab_size)


def new_trainer(
    name: str, shape: Shape, batch_size: int, args: argparse.Namespace, compiled: bool
) -> TrainState | ReferenceTrainer:
    """Return a new model of MODELS with its training state."""
    architecture = MODELS[name]
    if architecture is not None:
        return new_state(architecture, shape, batch_size, args.dtype, compiled)
    padded = PADDED_VOCAB_SIZE if shape.vocab_size == GPT2_VOCAB_SIZE else shape.vocab_size
    return ReferenceTrainer("nanogpt", shape._replace(vocab_size=padded), args.nanogpt, compiled, args.dtype)


def flops_per_token(model: nn.Module, shape: Shape) -> int:
    """Return the FLOPs of forward and backward pass. An embedding counts only if it is also the head."""
    embeddings = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    head = model.head_weight if hasattr(model, "head_weight") else model.lm_head.weight
    n_lookup_only = sum(weight.numel() for weight in embeddings if weight is not head)
    return 6 * (count_params(model) - n_lookup_only) + 12 * shape.n_layer * shape.n_embd * shape.block_size


def matmul_flops_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Return the FLOP/s of a product of two square matrices."""
    a, b = torch.randn(2, MATRIX_SIZE, MATRIX_SIZE, device=device).to(dtype)
    a @ b
    synchronize(device)
    n_products, start = 10 if device.type == "cpu" else 200, time.perf_counter()
    for _ in range(n_products):
        a @ b
    synchronize(device)
    return n_products * 2 * MATRIX_SIZE**3 / (time.perf_counter() - start)


def measure(shape: Shape, batch_size: int, args: argparse.Namespace, compiled: bool) -> dict[str, Throughput]:
    """Measure all models of one size in interleaved rounds."""
    torch.compiler.reset()
    ids = torch.randint(shape.vocab_size, (batch_size, shape.block_size + 1))
    batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), batch_size * shape.block_size)
    trainers = {name: new_trainer(name, shape, batch_size, args, compiled) for name in MODELS}
    for trainer in trainers.values():
        for _ in range(WARMUP_STEPS):
            run_step(trainer, batch, lr=1e-4)
    tokens_per_second: dict[str, list[float]] = {name: [] for name in MODELS}
    matmul_flops: list[float] = []
    for _ in range(args.rounds):
        for name, trainer in trainers.items():
            synchronize(trainer.device)
            start = time.perf_counter()
            for _ in range(args.steps):
                run_step(trainer, batch, lr=1e-4)
            synchronize(trainer.device)
            tokens_per_second[name].append(args.steps * batch.n_targets / (time.perf_counter() - start))
        matmul_flops.append(matmul_flops_per_second(trainer.device, trainer.dtype))
    return {
        name: Throughput(
            median(tokens_per_second[name]), flops_per_token(trainer.model, shape), median(matmul_flops)
        )
        for name, trainer in trainers.items()
    }


def main() -> None:
    """Print a row of the table after each measurement."""
    parser = argparse.ArgumentParser(description="Measure training throughput against nanoGPT.")
    parser.add_argument("--nanogpt", type=Path, required=True, help="checkout of nanoGPT")
    parser.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="autocast dtype; auto: bfloat16 on a GPU, float32 on a CPU (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="steps per round (default: %(default)s)")
    parser.add_argument(
        "--sizes",
        nargs="+",
        choices=SIZES,
        default=list(SIZES),
        help="layers × heads × channels of the models (default: all)",
    )
    parser.add_argument(
        "--compile",
        choices=("both", "on", "off"),
        default="both",
        help="measure compiled models, eager ones, or both (default: %(default)s)",
    )
    args = parser.parse_args()
    if min(args.rounds, args.steps) < 1:
        parser.error("--rounds and --steps: must be at least 1")
    if args.dtype == "auto":
        args.dtype = "bfloat16" if setup_torch().type == "cuda" else "float32"

    print("| size | vocabulary | compiled | model | tok/s | × nanoGPT | GFLOP/s | utilization |")
    print("|---|---:|---|---|---:|---:|---:|---:|", flush=True)
    for size in args.sizes:
        shape, batch_size = SIZES[size]
        for compiled in {"both": (False, True), "on": (True,), "off": (False,)}[args.compile]:
            results = measure(shape, batch_size, args, compiled)
            for name, (rate, flops, matmul_flops) in results.items():
                cells = [f"{size}, {shape.block_size} × {batch_size}", f"{shape.vocab_size:,}"]
                cells += ["yes" if compiled else "no", name, f"{rate:,.0f}"]
                cells += [f"{rate / results['nanoGPT'].tokens_per_second:.2f}", f"{rate * flops / 1e9:,.1f}"]
                print(f"| {' | '.join([*cells, f'{rate * flops / matmul_flops:.0%}'])} |", flush=True)
    print(f"\nSize: layers × heads × channels, context × batch; {args.dtype}. {describe_machine()}.")


if __name__ == "__main__":
    run_command(main)
