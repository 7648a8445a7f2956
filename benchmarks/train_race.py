"""Race this project, nanoGPT and GPT-2 of `transformers` to a validation loss on the same text.

    python -m benchmarks.train_race --nanogpt CHECKOUT --train TEXT --validation TEXT --log race.jsonl
    python -m benchmarks.race_table race.jsonl        # print the table again, also while the race runs

The texts hold documents separated by `<|endoftext|>`. All implementations get the tokens of a BPE tokenizer
that this project trains on the training text. The runs are interleaved, each in its own process with an empty
compiler cache. The time starts with the first step: it includes compilation, but no evaluations. Before the
first run of an implementation, two short trials, eager and compiled, decide which takes more steps in the
time; they do not count. This project keeps freed memory (`keep_freed_memory` in slm/model/device.py), the
references do not.

This project trains for the `max_steps` of its params file. The references train for a given time: their
cosine schedule is fitted to it with the speed of the trial, later of the run, so that both end together.
GPT-2 of `transformers` uses the learning rate that was best for nanoGPT, or all of them without nanoGPT.
"""

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.race_table import read_log, table
from benchmarks.racing import (
    CONTEXT,
    HEADS,
    IMPLEMENTATIONS,
    LAYERS,
    WIDTH,
    Race,
    Run,
    measure_step_seconds,
    train,
)
from benchmarks.references import SEED, describe_machine
from slm.core.errors import UserError, run_command
from slm.core.files import append_line
from slm.data.documents import write_corpus
from slm.data.params import DataFiles, DataParams
from slm.data.textfiles import read_files
from slm.model.params import ModelParams
from slm.tokenizer.encode import write_bins
from slm.tokenizer.params import TokenizerParams
from slm.train.params import TrainParams

# Seconds of the first step and of later ones, by whether the model is compiled.
StepSeconds = dict[bool, tuple[float, float]]


def run_isolated(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a new process with an empty compiler cache."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(function, *args).result()


def should_compile(step_seconds: StepSeconds, seconds: float) -> bool:
    """Return whether the compiled model takes more steps in `seconds` than the eager one."""
    steps = {compiled: (seconds - first) / later for compiled, (first, later) in step_seconds.items()}
    return max(steps, key=lambda compiled: steps[compiled])


def run_seconds(implementation: str, race: Race, step_seconds: StepSeconds) -> float:
    """Return the duration of a run, which is estimated for this project: its number of steps is fixed."""
    if implementation != "slm":
        return race.seconds
    # Prefer the time of the eager model.
    first, later = step_seconds[min(step_seconds)]
    return first + later * TrainParams.load(race.params).max_steps


def run_all(
    race: Race,
    implementations: list[str],
    seeds: list[int],
    learning_rates: list[float],
    compile_mode: str,
    log: Path,
) -> None:
    """Train all runs, with the implementations interleaved, and append each to the log."""
    # Whether to compile, and the seconds per step, by implementation.
    settings: dict[str, tuple[bool, float]] = {}

    def train_and_log(implementation: str, seed: int, lr: float) -> None:
        is_slm = implementation == "slm"
        recipe = f"{race.params.name} {digest(race.params)}" if is_slm else f"beta2 {race.beta2:g}"
        name = IMPLEMENTATIONS[implementation]
        new_run = partial(Run, implementation, f"{name} ({recipe})", seed, lr, conditions=race.conditions)
        if implementation not in settings:
            options = {"auto": (False, True), "on": (True,), "off": (False,)}[compile_mode]
            step_seconds = {c: run_isolated(measure_step_seconds, new_run(compiled=c), race) for c in options}
            compiled = should_compile(step_seconds, run_seconds(implementation, race, step_seconds))
            settings[implementation] = compiled, step_seconds[compiled][1]
            for c, (first, later) in step_seconds.items():
                mode = "compiled" if c else "eager"
                print(f"{name}, {mode}: first step {first:.1f} s, later ones {later:.3f} s", file=sys.stderr)
        compiled, seconds_per_step = settings[implementation]
        run = run_isolated(train, new_run(compiled=compiled), race, seconds_per_step)
        append_line(log, asdict(run))

    peak_lr = TrainParams.load(race.params).learning_rate
    plans = {
        "slm": [("slm", seed, peak_lr) for seed in seeds],
        "nanogpt": [("nanogpt", SEED, lr) for lr in learning_rates],
    }
    for i in range(max(len(seeds), len(learning_rates))):
        for implementation, runs in plans.items():
            if implementation in implementations and i < len(runs):
                train_and_log(*runs[i])
    if "transformers" in implementations:
        nanogpt_runs = [run for run in read_log(log) if run.implementation == "nanogpt"]
        best_lr = [min(nanogpt_runs, key=lambda run: run.loss).peak_lr] if nanogpt_runs else learning_rates
        for lr in best_lr:
            train_and_log("transformers", SEED, lr)


def write_tokens(train: Path, validation: Path, vocab_size: int, folder: Path) -> Path:
    """Train the tokenizer on the training text and encode both texts; return the folder with the bins."""
    no_limits = {"max_documents": None, "max_validation_documents": None}
    files = DataFiles(train=str(train), validation=str(validation))
    params = DataParams.load().model_copy(update={**no_limits, "files": files})
    write_corpus(read_files(params), folder / "corpus", {})
    tokenizer = TokenizerParams(type="bpe", vocab_size=vocab_size)
    write_bins(folder / "corpus", folder / "tokens", folder / "tokenizer.json", tokenizer)
    return folder / "tokens"


def digest(path: Path) -> str:
    """Return a short digest of a file."""
    return sha256(path.read_bytes()).hexdigest()[:8]


def describe_conditions(args: argparse.Namespace) -> str:
    """Return all settings that runs must share to be comparable, as text."""
    texts = f"texts {digest(args.train)} and {digest(args.validation)}, BPE of {args.vocab_size:,}"
    shape = f"{LAYERS} layers, {HEADS} heads, {WIDTH} channels, context {CONTEXT}, batch {args.batch_size}"
    loss = f"mean over the first {args.validation_tokens:,} tokens in windows of {CONTEXT}"
    machine = describe_machine("transformers")
    return f"References: {shape}, {args.seconds:g} s. Loss: {loss}; {texts}. {machine}."


def main() -> None:
    """Train all runs and print the table."""
    parser = argparse.ArgumentParser(description="Race this project against nanoGPT and transformers.")
    parser.add_argument("--train", type=Path, required=True, help="training text")
    parser.add_argument("--validation", type=Path, required=True, help="validation text")
    parser.add_argument("--nanogpt", type=Path, help="checkout of nanoGPT")
    parser.add_argument(
        "--params",
        type=Path,
        default=Path("benchmarks/race.yaml"),
        help="params file of this project (default: %(default)s)",
    )
    parser.add_argument("--log", type=Path, help="append the runs to this file, and print all runs in it")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=IMPLEMENTATIONS,
        default=list(IMPLEMENTATIONS),
        help="implementations to train (default: all)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=300,
        help="training time of the references in seconds (default: %(default)s)",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of this project (default: %(default)s)"
    )
    parser.add_argument(
        "--learning-rates",
        type=float,
        nargs="+",
        default=[1e-3, 2e-3, 4e-3],
        help="peak learning rates of nanoGPT (default: %(default)s)",
    )
    parser.add_argument(
        "--beta2",
        type=float,
        default=0.95,
        help="AdamW beta2 of the references; the CPU example of nanoGPT has 0.99 (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=16, help="batch size of the references (default: %(default)s)"
    )
    parser.add_argument("--vocab-size", type=int, default=4096, help="size of the BPE (default: %(default)s)")
    parser.add_argument(
        "--validation-tokens",
        type=int,
        default=32768,
        help="number of tokens of the validation loss (default: %(default)s)",
    )
    parser.add_argument(
        "--compile",
        choices=("auto", "on", "off"),
        default="auto",
        help="compile the models; auto: if a trial is faster (default: %(default)s)",
    )
    args = parser.parse_args()
    if "nanogpt" in args.only and not args.nanogpt:
        parser.error("--nanogpt is required, unless --only excludes it")
    if "slm" in args.only and (block_size := ModelParams.load(args.params).block_size) != CONTEXT:
        raise UserError(
            f"{args.params}: model.block_size: must be {CONTEXT}, like the references, got {block_size}"
        )
    with TemporaryDirectory() as name:
        tokens = write_tokens(args.train, args.validation, args.vocab_size, Path(name))
        race = Race(
            describe_conditions(args),
            tokens,
            args.params,
            args.nanogpt,
            args.seconds,
            args.batch_size,
            args.beta2,
            args.validation_tokens,
        )
        log = args.log or Path(name) / "race.jsonl"
        log.touch()
        if any(run.conditions != race.conditions for run in read_log(log)):
            raise UserError(f"{log}: contains runs with other conditions; start a new log")
        run_all(race, args.only, args.seeds, args.learning_rates, args.compile, log)
        print(table(read_log(log)))


if __name__ == "__main__":
    run_command(main)
