"""Ablate the choices of a training recipe at equal wall-clock time, over several seeds.

    python -m benchmarks.ablations --tokens data/tokens [--params benchmarks/race.yaml] [--seeds 1 2 3]

First measure the time per step of all variants, in interleaved rounds so that the conditions are equal. The
timed steps are spread over the whole run, because sequence-length warm-up makes the first steps cheaper. Then
train each variant for as many steps as fit into the time of the unchanged recipe, with its schedule scaled
accordingly. The number of steps is fixed by then, so the second part can run on a busy machine. A change is
compared with the recipe of the same seed: mean and standard error of the differences.
"""

import argparse
import time
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np

from benchmarks.racing import CONTEXT, validation_loss
from benchmarks.references import describe_machine, synchronize
from slm.core.errors import UserError, run_command
from slm.core.progress import Progress
from slm.model.gpt import count_params
from slm.model.params import ModelParams
from slm.tokenizer.bins import open_bin, read_meta
from slm.train.data import to_rank, training_batch
from slm.train.params import TrainParams, learning_rate, n_chunks
from slm.train.state import TrainState
from slm.train.trainer import train_step

RECIPE = "recipe"
# Changed keys of the sections `model` and `train`. A float is a factor: of max_steps for the keys of the
# schedule, of the value in the recipe for other keys.
CHANGES: dict[str, dict[str, Any]] = {
    RECIPE: {},
    "multi-head attention (no shared KV heads)": {"n_kv_head": None},
    "untied embeddings": {"tie_embeddings": False},
    "multi-head attention, untied embeddings": {"n_kv_head": None, "tie_embeddings": False},
    "4 heads instead of 2": {"n_head": 4},
    "SwiGLU": {"activation": "swiglu"},
    "ReLU²": {"activation": "relu2"},
    "sequence-length warm-up in 25% of the steps": {"seq_len_warmup_steps": 0.25},
    "cosine schedule": {"schedule": "cosine", "decay_steps": 0},
    "decay after the warm-up, no stable phase": {"decay_steps": 1.0},
    "AdamW, learning rate × 0.3": {"optimizer": "adamw", "learning_rate": 0.3},
    "GPT-2 architecture, AdamW, learning rate × 0.3": {
        "architecture": "gpt2", "n_head": 4, "optimizer": "adamw", "learning_rate": 0.3,
    },
}  # fmt: skip
# Number of timed steps per variant and round.
TIMED_STEPS = 8
# Keys in steps, which are scaled to the steps that fit into the time.
SCALED_KEYS = ("max_steps", "warmup_steps", "decay_steps", "seq_len_warmup_steps")


def variant(path: Path, name: str, seed: int, scale: float = 1.0) -> tuple[ModelParams, TrainParams]:
    """Return the params of a variant with `scale` times as many steps as the recipe."""
    model, train = ModelParams.load(path).model_dump(), TrainParams.load(path).model_dump()
    factor_of = {**train, "seq_len_warmup_steps": train["max_steps"], "decay_steps": train["max_steps"]}
    for key, value in CHANGES[name].items():
        section = model if key in model else train
        section[key] = value * factor_of[key] if isinstance(value, float) else value
    train |= {key: round(train[key] * scale) for key in SCALED_KEYS} | {"seed": seed}
    # Rounding must not make warm-up and decay longer than the run.
    train["decay_steps"] = min(train["decay_steps"], train["max_steps"] - train["warmup_steps"])
    return ModelParams.check(model), TrainParams.check(train)


def run_step(state: TrainState, tokens: np.ndarray, step: int) -> None:
    """Take a training step with the batch and the learning rate of the trainer, and wait for the device."""
    params = state.params
    n_sequences = params.batch_size * params.grad_accum_steps
    block_size = state.model.params.block_size
    batch = training_batch(tokens, block_size, n_sequences, params.seed, step, n_chunks(step, params))
    train_step(state, to_rank(batch, state.device), learning_rate(step, params))
    synchronize(state.device)


def measure_seconds(
    path: Path, names: list[str], tokens: np.ndarray, vocab_size: int, rounds: int
) -> dict[str, float]:
    """Return the estimated seconds per run of each variant, from interleaved rounds of timed steps."""
    states = {name: TrainState(*variant(path, name, seed=1), vocab_size) for name in names}
    # Seconds by variant, position in the run, and round.
    seconds: dict[str, list[list[float]]] = {name: [[] for _ in range(TIMED_STEPS)] for name in names}
    with Progress("timing", rounds * len(names), "measurements") as progress:
        for _ in range(rounds):
            for name, state in states.items():
                # Load the model into the CPU caches again.
                run_step(state, tokens, 0)
                for position in range(TIMED_STEPS):
                    step = position * state.params.max_steps // TIMED_STEPS
                    start = time.perf_counter()
                    run_step(state, tokens, step)
                    seconds[name][position].append(time.perf_counter() - start)
                progress.advance(1)
    n_steps = TrainParams.load(path).max_steps
    return {name: mean(median(rounds) for rounds in steps) * n_steps for name, steps in seconds.items()}


def train_variant(model: ModelParams, params: TrainParams, tokens: Path, n_tokens: int) -> tuple[float, int]:
    """Train a model. Return its validation loss in nats per token and its number of parameters."""
    state = TrainState(model, params, read_meta(tokens).vocab_size)
    train = open_bin(tokens, "train")
    for step in range(params.max_steps):
        run_step(state, train, step)
    return validation_loss(state, open_bin(tokens, "validation"), n_tokens), count_params(state.model)


def main() -> None:
    """Print a row of the table after each variant."""
    parser = argparse.ArgumentParser(description="Ablate the choices of a recipe at equal wall-clock time.")
    parser.add_argument("--tokens", type=Path, required=True, help="folder with the bins, e.g. data/tokens")
    parser.add_argument(
        "--params",
        type=Path,
        default=Path(__file__).with_name("race.yaml"),
        help="params file of the recipe (default: %(default)s)",
    )
    parser.add_argument(
        "--only", nargs="+", choices=CHANGES, default=list(CHANGES), help="variants to train (default: all)"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of each variant (default: %(default)s)"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds of time measurement (default: %(default)s)"
    )
    parser.add_argument(
        "--validation-tokens",
        type=int,
        default=131_072,
        help="tokens of the validation loss (default: %(default)s)",
    )
    args = parser.parse_args()
    if len(args.seeds) < 2 or args.rounds < 1:
        parser.error("expected at least 2 --seeds and at least 1 of --rounds")
    if (block_size := ModelParams.load(args.params).block_size) != CONTEXT:
        raise UserError(
            f"{args.params}: model.block_size: must be {CONTEXT}, the evaluation window, got {block_size}"
        )

    train, vocab_size = open_bin(args.tokens, "train"), read_meta(args.tokens).vocab_size
    names = list(dict.fromkeys([RECIPE, *args.only]))
    seconds = measure_seconds(args.params, names, train, vocab_size, args.rounds)
    print("| change | parameters | × time per step | steps | loss | difference |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    recipe_losses: list[float] = []
    for name in names:
        relative_time = seconds[name] / seconds[RECIPE]
        runs = [variant(args.params, name, seed, 1 / relative_time) for seed in args.seeds]
        results = [train_variant(*run, args.tokens, args.validation_tokens) for run in runs]
        losses = [loss for loss, _ in results]
        # The recipe is the first variant.
        recipe_losses = recipe_losses or losses
        cells = [name, f"{results[0][1]:,}", f"{relative_time:.2f}", f"{runs[0][1].max_steps:,}"]
        cells += [f"{mean(losses):.3f} ± {stdev(losses):.3f}", difference(losses, recipe_losses)]
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\nLoss: mean and standard deviation over seeds {args.seeds}; {seconds[RECIPE]:.0f} s per run.")
    print(f"{describe_machine()}.")


def difference(losses: list[float], recipe_losses: list[float]) -> str:
    """Return the mean difference from the recipe over seeds with its standard error, as text."""
    if losses is recipe_losses:
        return ""
    differences = [a - b for a, b in zip(losses, recipe_losses, strict=True)]
    return f"{mean(differences):+.3f} ± {stdev(differences) / len(differences) ** 0.5:.3f}"


if __name__ == "__main__":
    run_command(main)
