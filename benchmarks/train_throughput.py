"""Tokens a second in training: this project's step and nanoGPT's, of models of the same sizes.

    python -m benchmarks.train_throughput --nanogpt CHECKOUT [--dtype auto] [--rounds 5] [--steps 4]

A step is forward, backward, clipping and the optimizer's; the first ones, in which a model is compiled, do
not count. The sides take turns, round by round, and so does a matrix product; medians are compared. All sides
run in one process, so nanoGPT gains from what `keep_freed_memory` (slm/model/device.py) does there, too.

FLOPs a token are 6N + 12·L·C·T (Chowdhery et al. 2022, appendix B), with N parameters without the embeddings
that are only looked up, L layers, C channels and T tokens of context; utilisation is their share of what the
matrix product of 2048 × 2048 numbers of the same type did. nanoGPT rounds GPT-2's vocabulary up to 50,304, as
its train.py does. The modern model, with Muon, is there for information; what is not said here is as in
params.yaml.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.peers import Peer, Shape, machine, synchronize, update
from slm.core.errors import run_command
from slm.model.device import setup_torch
from slm.model.gpt import count_params
from slm.model.params import ModelParams
from slm.train.params import TrainParams
from slm.train.state import TrainState

GPT2_VOCABULARY, PADDED = 50_257, 50_304
SIZES = {  # what is trained, and batch size
    "4 × 4 × 128": (Shape(n_layer=4, n_head=4, n_embd=128, block_size=256, vocab_size=4096), 16),
    "4 × 4 × 256": (Shape(n_layer=4, n_head=4, n_embd=256, block_size=256, vocab_size=4096), 16),
    "6 × 6 × 384": (Shape(n_layer=6, n_head=6, n_embd=384, block_size=128, vocab_size=GPT2_VOCABULARY), 8),
}
SIDES = ("this project, classic", "nanoGPT", "this project, modern")
PRODUCT = 2048  # numbers in a row
WARM_STEPS = 3


class Measured(NamedTuple):
    """Medians of the rounds."""

    tokens_a_second: float
    flops_a_token: int
    flops_of_product: float  # a second


def new_state(architecture: str, shape: Shape, batch_size: int, dtype: str, compiled: bool) -> TrainState:
    """A model of this project, trained by the recipe of nanoGPT, or by Muon if it is a modern one."""
    sizes = {name: size for name, size in shape._asdict().items() if name != "vocab_size"}
    choices = {"architecture": architecture, "n_kv_head": None, "dropout": 0.0, "bias": False}
    model = ModelParams.load().model_copy(update=sizes | choices)
    optimizer = "muon" if architecture == "rope" else "adamw"
    changes = {"batch_size": batch_size, "optimizer": optimizer, "dtype": dtype, "compile": compiled}
    changes |= {"grad_accum_steps": 1, "grad_clip": 1.0, "weight_decay": 0.1, "deterministic": False}
    params = TrainParams.load().model_copy(update=changes)
    return TrainState(model, params, shape.vocab_size)


def side(
    name: str, shape: Shape, batch_size: int, arguments: argparse.Namespace, compiled: bool
) -> TrainState | Peer:
    """A new model with its way of training."""
    if name == "nanoGPT":
        padded = PADDED if shape.vocab_size == GPT2_VOCABULARY else shape.vocab_size
        return Peer(
            "nanogpt", shape._replace(vocab_size=padded), arguments.nanogpt, compiled, arguments.dtype
        )
    return new_state(name.split()[-1], shape, batch_size, arguments.dtype, compiled)


def flops_a_token(model: nn.Module, shape: Shape) -> int:
    """Of forward and backward pass. An embedding counts if it is also the head."""
    embeddings = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    heads = {id(model.head_weight if hasattr(model, "head_weight") else model.lm_head.weight)}
    n_looked_up = sum(weight.numel() for weight in embeddings if id(weight) not in heads)
    return 6 * (count_params(model) - n_looked_up) + 12 * shape.n_layer * shape.n_embd * shape.block_size


def product_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOPs a second of a matrix product."""
    a, b = torch.randn(2, PRODUCT, PRODUCT, device=device).to(dtype)
    a @ b
    synchronize(device)
    n_products, start = 10 if device.type == "cpu" else 200, time.perf_counter()
    for _ in range(n_products):
        a @ b
    synchronize(device)
    return n_products * 2 * PRODUCT**3 / (time.perf_counter() - start)


def measure(
    shape: Shape, batch_size: int, arguments: argparse.Namespace, compiled: bool
) -> dict[str, Measured]:
    """Let the sides take turns on one size."""
    torch.compiler.reset()
    ids = torch.randint(shape.vocab_size, (batch_size, shape.block_size + 1))
    batch = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    sides = {name: side(name, shape, batch_size, arguments, compiled) for name in SIDES}
    for warm in sides.values():
        for _ in range(WARM_STEPS):
            update(warm, batch, lr=1e-4)
    rates: dict[str, list[float]] = {name: [] for name in SIDES}
    products: list[float] = []
    for _ in range(arguments.rounds):
        for name, trained in sides.items():
            synchronize(trained.device)
            start = time.perf_counter()
            for _ in range(arguments.steps):
                update(trained, batch, lr=1e-4)
            synchronize(trained.device)
            rates[name].append(arguments.steps * batch[0].numel() / (time.perf_counter() - start))
        products.append(product_flops(trained.device, trained.dtype))
    return {
        name: Measured(median(rates[name]), flops_a_token(trained.model, shape), median(products))
        for name, trained in sides.items()
    }


def main() -> None:
    """Print a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description="Measure tokens a second in training.")
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of nanoGPT")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="in a round")
    parser.add_argument(
        "--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="layers × heads × width"
    )
    parser.add_argument("--compile", choices=("both", "on", "off"), default="both")
    arguments = parser.parse_args()
    if min(arguments.rounds, arguments.steps) < 1:
        parser.error("--rounds and --steps: must be at least 1")
    dtype = arguments.dtype
    if dtype == "auto":
        dtype = arguments.dtype = "bfloat16" if setup_torch().type == "cuda" else "float32"

    print("| size | vocabulary | compiled | model | tok/s | × nanoGPT | GFLOP/s | utilisation |")
    print("|---|---:|---|---|---:|---:|---:|---:|", flush=True)
    for size in arguments.sizes:
        shape, batch_size = SIZES[size]
        for compiled in {"both": (False, True), "on": (True,), "off": (False,)}[arguments.compile]:
            measured = measure(shape, batch_size, arguments, compiled)
            for name, (rate, flops, product) in measured.items():
                cells = [f"{size}, {shape.block_size} × {batch_size}", f"{shape.vocab_size:,}"]
                cells += ["yes" if compiled else "no", name, f"{rate:,.0f}"]
                cells += [f"{rate / measured['nanoGPT'].tokens_a_second:.2f}", f"{rate * flops / 1e9:,.1f}"]
                print(f"| {' | '.join([*cells, f'{rate * flops / product:.0%}'])} |", flush=True)
    print(f"\nSize: layers × heads × width, context × batch; {dtype}. {machine()}.")


if __name__ == "__main__":
    run_command(main)
