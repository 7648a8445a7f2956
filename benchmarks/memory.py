"""Measure the peak memory of one training step of each recipe, beside the estimate of `check_memory`.

    python -m benchmarks.memory [--recipes movie-scripts tinystories-30m]

Each recipe takes one step of one micro-batch of random tokens in a process of its own: gradient accumulation
adds only token ids. On a CPU this is the growth of the process's peak resident memory, on a GPU that of the
allocator.
"""

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.references import describe_machine
from slm.cli.recipes import RECIPES, committed_defaults, read_recipe
from slm.core.errors import UserError, run_command
from slm.generate.markdown import table
from slm.model.params import ModelParams
from slm.train.data import Batch, to_rank
from slm.train.params import TrainParams
from slm.train.state import TrainState
from slm.train.trainer import estimate_memory, train_step

GPT2_VOCAB_SIZE = 50_257


def read_sizes(recipe: str) -> tuple[ModelParams, TrainParams, int]:
    """Return the params of one micro-batch of a recipe, and its vocabulary size."""
    values = read_recipe(recipe, committed_defaults())
    tokenizer = values["tokenizer"]
    vocab_size = GPT2_VOCAB_SIZE if tokenizer["type"] == "gpt2" else tokenizer["vocab_size"]
    params = TrainParams.check(values["train"]).model_copy(update={"grad_accum_steps": 1})
    return ModelParams.check(values["model"]), params, vocab_size


def resident_peak() -> int:
    """Return the peak resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(recipe: str) -> None:
    """Print the peak memory of a step in bytes, and the device."""
    model_params, params, vocab_size = read_sizes(recipe)
    before = resident_peak()
    state = TrainState(model_params, params, vocab_size)
    ids = torch.randint(vocab_size, (2, params.batch_size, model_params.block_size))
    # The second step has all optimizer states from the start.
    for _ in range(2):
        train_step(state, to_rank(Batch(ids[0], ids[1], ids[0].numel()), state.device), params.learning_rate)
    is_cuda = state.device.type == "cuda"
    print(torch.cuda.max_memory_allocated() if is_cuda else resident_peak() - before)


def main() -> None:
    """Print a table with a row per recipe."""
    parser = argparse.ArgumentParser(description="Measure the peak memory of a training step of each recipe.")
    names = sorted(path.stem for path in Path(RECIPES).glob("*.yaml"))
    parser.add_argument("--recipes", nargs="+", default=names, metavar="NAME", help="default: all")
    parser.add_argument("--measure", metavar="NAME", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure)
        return
    rows = []
    for name in args.recipes:
        command = [sys.executable, "-m", "benchmarks.memory", "--measure", name]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise UserError(f"{name}: {result.stderr.strip().splitlines()[-1]}")
        measured, estimate = int(result.stdout), sum(estimate_memory(*read_sizes(name)).values())
        rows.append([name, f"{measured / 1e9:.2f}", f"{estimate / 1e9:.2f}", f"{estimate / measured:.0%}"])
    print(table(["recipe", "measured, GB", "estimate, GB", "estimate / measured"], rows))
    print(f"\n{describe_machine()}.")


if __name__ == "__main__":
    run_command(main)
