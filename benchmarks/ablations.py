"""What each choice of a recipe is worth at the same wall clock, over several seeds.

    python -m benchmarks.ablations --tokens data/tokens [--params benchmarks/race.yaml] [--seeds 1 2 3]

First all variants take turns, so that what a step of each costs is measured under the same conditions: steps
spread over the whole run, as short windows make the first ones cheaper. Then each variant trains for as many
steps as it can take in the time of the unchanged recipe, its schedule stretched to that; so the second part
may run on a busy machine, and comes out the same. A change is compared with the recipe seed by seed: the mean
of the differences, and their standard error.
"""

import argparse
import time
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np

from benchmarks.peers import machine, synchronize
from benchmarks.racing import CONTEXT, validation_loss
from slm.core.errors import UserError, run_command
from slm.core.progress import Progress
from slm.model.gpt import count_params
from slm.model.params import ModelParams
from slm.tokenizer.bins import open_bin, read_meta
from slm.train.data import training_batch
from slm.train.params import TrainParams, learning_rate, n_chunks
from slm.train.state import TrainState
from slm.train.trainer import train_step

RECIPE = "the recipe"
CHANGES: dict[str, dict[str, Any]] = {  # keys of `model` and `train` that differ from the params file's
    RECIPE: {},
    "as many heads of keys and values as of queries": {"n_kv_head": None},
    "a head of its own": {"tie_embeddings": False},
    "both of these": {"n_kv_head": None, "tie_embeddings": False},
    "twice as many heads, half as wide": {"n_head": 4},
    "SwiGLU": {"activation": "swiglu"},
    "ReLU²": {"activation": "relu2"},
    "a quarter of the steps with short windows": {"seq_len_warmup_steps": 0.25},
    "cosine": {"schedule": "cosine", "decay_steps": 0},
    "decay from the end of the warm-up": {"decay_steps": 1.0},
    "AdamW, 0.3 of the learning rate": {"optimizer": "adamw", "learning_rate": 0.3},
    "classic model, AdamW, 0.3 of the learning rate": {
        "architecture": "gpt2", "n_head": 4, "optimizer": "adamw", "learning_rate": 0.3,
    },
}  # fmt: skip
TIMED_STEPS = 8  # of each variant and round
SCALED = ("max_steps", "warmup_steps", "decay_steps", "seq_len_warmup_steps")


def variant(path: Path, name: str, seed: int, scale: float = 1.0) -> tuple[ModelParams, TrainParams]:
    """The params of a variant, with `scale` times as many steps; fractions are shares of the recipe's."""
    model, train = ModelParams.load(path).model_dump(), TrainParams.load(path).model_dump()
    of = {**train, "seq_len_warmup_steps": train["max_steps"], "decay_steps": train["max_steps"]}
    for key, value in CHANGES[name].items():
        section = model if key in model else train
        section[key] = value * of[key] if isinstance(value, float) else value
    train |= {key: round(train[key] * scale) for key in SCALED} | {"seed": seed}
    train["decay_steps"] = min(train["decay_steps"], train["max_steps"] - train["warmup_steps"])
    return ModelParams.check(model), TrainParams.check(train)


def step(state: TrainState, tokens: np.ndarray, number: int) -> None:
    """One step of training, as the trainer makes it."""
    params = state.params
    rows = params.batch_size * params.grad_accum_steps
    block_size = state.model.params.block_size
    batch = training_batch(tokens, block_size, rows, params.seed, number, n_chunks(number, params))
    train_step(state, batch, learning_rate(number, params))
    synchronize(state.device)


def seconds_of_runs(
    path: Path, names: list[str], tokens: np.ndarray, vocab_size: int, rounds: int
) -> dict[str, float]:
    """What a run of each variant costs, by steps spread over it; the variants take turns."""
    states = {name: TrainState(*variant(path, name, seed=1), vocab_size) for name in names}
    spent: dict[str, list[list[float]]] = {name: [[] for _ in range(TIMED_STEPS)] for name in names}
    with Progress("timing", rounds * len(names), "turns") as progress:
        for _ in range(rounds):
            for name, state in states.items():
                step(state, tokens, 0)  # caches hold the model again
                for place in range(TIMED_STEPS):
                    number = place * state.params.max_steps // TIMED_STEPS
                    start = time.perf_counter()
                    step(state, tokens, number)
                    spent[name][place].append(time.perf_counter() - start)
                progress.advance(1)
    n_steps = TrainParams.load(path).max_steps
    return {name: mean(median(turns) for turns in places) * n_steps for name, places in spent.items()}


def loss(model: ModelParams, params: TrainParams, tokens: Path, n_tokens: int) -> tuple[float, int]:
    """Train; give the validation loss in nats a token, and the number of parameters."""
    state = TrainState(model, params, read_meta(tokens).vocab_size)
    train = open_bin(tokens, "train")
    for number in range(params.max_steps):
        step(state, train, number)
    return validation_loss(state, open_bin(tokens, "validation"), n_tokens), count_params(state.model)


def main() -> None:
    """Print a row as soon as it is there."""
    parser = argparse.ArgumentParser(description="Compare a recipe's choices at the same wall clock.")
    parser.add_argument("--tokens", type=Path, required=True, help="folder with bins: data/tokens")
    parser.add_argument("--params", type=Path, default=Path(__file__).with_name("race.yaml"))
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES), help="these changes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--validation-tokens", type=int, default=131_072)
    arguments = parser.parse_args()
    if len(arguments.seeds) < 2 or arguments.rounds < 1:
        parser.error("--seeds: at least 2 are needed, --rounds: at least 1")
    if (block_size := ModelParams.load(arguments.params).block_size) != CONTEXT:
        reason = "losses are measured in windows of that many tokens"
        raise UserError(
            f"{arguments.params}: model.block_size: must be {CONTEXT}, because {reason}, got {block_size}"
        )

    train, vocab_size = open_bin(arguments.tokens, "train"), read_meta(arguments.tokens).vocab_size
    names = list(dict.fromkeys([RECIPE, *arguments.only]))
    seconds = seconds_of_runs(arguments.params, names, train, vocab_size, arguments.rounds)
    print("| change | parameters | × time a step | steps | loss | difference |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    recipe: list[float] = []
    for name in names:
        cost = seconds[name] / seconds[RECIPE]
        runs = [variant(arguments.params, name, seed, 1 / cost) for seed in arguments.seeds]
        found = [loss(*run, arguments.tokens, arguments.validation_tokens) for run in runs]
        losses = [nats for nats, _ in found]
        recipe = recipe or losses
        cells = [name, f"{found[0][1]:,}", f"{cost:.2f}", f"{runs[0][1].max_steps:,}"]
        cells += [f"{mean(losses):.3f} ± {stdev(losses):.3f}", difference(losses, recipe)]
        print(f"| {' | '.join(cells)} |", flush=True)
    print(f"\nLoss: mean and standard deviation over seeds {arguments.seeds}; {seconds[RECIPE]:.0f} s each.")
    print(f"{machine()}.")


def difference(losses: list[float], recipe: list[float]) -> str:
    """How much more than the recipe's, seed by seed: the mean and its standard error."""
    if losses is recipe:
        return ""
    differences = [a - b for a, b in zip(losses, recipe, strict=True)]
    return f"{mean(differences):+.3f} ± {stdev(differences) / len(differences) ** 0.5:.3f}"


if __name__ == "__main__":
    run_command(main)
