"""Validation loss over training time: this project, nanoGPT and GPT-2 of `transformers` on the same text.

    python -m benchmarks.train_race --nanogpt CHECKOUT --train TEXT --validation TEXT --log race.jsonl
    python -m benchmarks.race_table race.jsonl        # again later, or while it runs

The texts hold documents separated by `<|endoftext|>`; all sides get the tokens of a BPE that this project
trains on the first. The runs take turns, each alone in a process of its own with an empty compiler cache. The
clock starts with the first step: compilation counts, looks at the validation split do not. Before its first
run a side has two short trials, eager and compiled, to see what gets further in the time; these do not count.
This project keeps freed memory in its process (`keep_freed_memory` of slm/model/device.py); the others do
not.

This project trains by its params file, for its `max_steps`. The others have a time: their learning rate is
fitted to it by the speed of the trial, then of the run itself, so that their cosine ends when the time does.
GPT-2 of `transformers` has the learning rate that was best for nanoGPT, or each of them without nanoGPT.
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

from benchmarks.peers import SEED, machine
from benchmarks.race_table import read_log, table
from benchmarks.racing import CONTEXT, HEADS, LAYERS, SIDES, WIDTH, Race, Run, train, trial
from slm.core.errors import UserError, run_command
from slm.core.files import append_line
from slm.data.documents import write_corpus
from slm.data.params import DataFiles, DataParams
from slm.data.textfiles import read_files
from slm.model.params import ModelParams
from slm.tokenizer.encode import write_bins
from slm.tokenizer.params import TokenizerParams
from slm.train.params import TrainParams

Trials = dict[bool, tuple[float, float]]  # compiled or not: seconds of the first step, and of a later one


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own that finds nothing compiled before."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            return process.submit(function, *arguments).result()


def further(trials: Trials, seconds: float) -> bool:
    """Whether the compiled model takes more steps in the time than the other."""
    steps = {compiled: (seconds - first) / later for compiled, (first, later) in trials.items()}
    return max(steps, key=lambda compiled: steps[compiled])


def time_of(side: str, race: Race, trials: Trials) -> float:
    """How long a side's run is: this project's has a number of steps instead."""
    if side != "ours":
        return race.seconds
    first, later = trials[min(trials)]  # not compiled, if that was tried
    return first + later * TrainParams.load(race.params).max_steps


def run_all(
    race: Race, sides: list[str], seeds: list[int], rates: list[float], compiles: str, log: Path
) -> None:
    """Make the runs of all sides in turns, and add each to the log."""
    choices: dict[str, tuple[bool, float]] = {}  # of each side: whether to compile, seconds of a step

    def make(side: str, seed: int, rate: float) -> None:
        recipe = f"{race.params.name} {digest(race.params)}" if side == "ours" else f"beta2 {race.beta2:g}"
        new = partial(Run, side, f"{SIDES[side]} ({recipe})", seed, rate, conditions=race.conditions)
        if side not in choices:
            tried = {"auto": (False, True), "on": (True,), "off": (False,)}[compiles]
            trials = {c: alone(trial, new(compiled=c), race) for c in tried}
            compiled = further(trials, time_of(side, race, trials))
            choices[side] = compiled, trials[compiled][1]
            for c, (first, later) in trials.items():
                what = f"{SIDES[side]}, {'compiled' if c else 'eager'}"
                print(f"{what}: first step {first:.1f} s, later ones {later:.3f} s", file=sys.stderr)
        compiled, step_seconds = choices[side]
        run = alone(train, new(compiled=compiled), race, step_seconds)
        append_line(log, asdict(run))

    highest = TrainParams.load(race.params).learning_rate
    plans = {"ours": [("ours", s, highest) for s in seeds], "nanogpt": [("nanogpt", SEED, r) for r in rates]}
    for i in range(max(len(seeds), len(rates))):
        for side in ("ours", "nanogpt"):
            if side in sides and i < len(plans[side]):
                make(*plans[side][i])
    if "transformers" in sides:
        peers = [run for run in read_log(log) if run.side == "nanogpt"]
        for rate in [min(peers, key=lambda run: run.loss).rate] if peers else rates:
            make("transformers", SEED, rate)


def write_tokens(train: Path, validation: Path, vocab_size: int, folder: Path) -> Path:
    """Train the tokenizer on a text and turn both texts into bins."""
    unused = {"max_documents": None, "max_validation_documents": None}
    files = DataFiles(train=str(train), validation=str(validation))
    params = DataParams.load().model_copy(update={**unused, "files": files})
    write_corpus(read_files(params), folder / "corpus", {})
    tokenizer = TokenizerParams(type="bpe", vocab_size=vocab_size)
    write_bins(folder / "corpus", folder / "tokens", folder / "tokenizer.json", tokenizer)
    return folder / "tokens"


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:8]


def conditions(args: argparse.Namespace) -> str:
    """What makes runs comparable, in words."""
    texts = f"texts {digest(args.train)} and {digest(args.validation)}, BPE of {args.vocab_size:,}"
    shape = f"{LAYERS} layers, {HEADS} heads, {WIDTH} wide, context {CONTEXT}, batch {args.batch_size}"
    loss = f"the mean over the first {args.validation_tokens:,} tokens in windows of {CONTEXT}"
    return f"The others: {shape}, {args.seconds:g} s. Loss: {loss}; {texts}. {machine('transformers')}."


def main() -> None:
    """Make the runs and print the table."""
    parser = argparse.ArgumentParser(description="Race this project against others in training.")
    parser.add_argument("--train", type=Path, required=True, help="text to train on")
    parser.add_argument("--validation", type=Path, required=True, help="text to measure the loss on")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT")
    parser.add_argument("--params", type=Path, default=Path("benchmarks/race.yaml"), help="of this project")
    parser.add_argument("--log", type=Path, help="add the runs to this file, and show all that are in it")
    parser.add_argument("--only", nargs="+", choices=SIDES, default=list(SIDES), help="the sides that run")
    parser.add_argument("--seconds", type=float, default=300, help="of training, for the other sides")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of this project")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3], help="of nanoGPT")
    parser.add_argument(
        "--beta2", type=float, default=0.95, help="of the other sides; 0.99: as its readme's CPU example"
    )
    parser.add_argument("--batch-size", type=int, default=16, help="of the other sides")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--validation-tokens", type=int, default=32768)
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
    args = parser.parse_args()
    if "nanogpt" in args.only and not args.nanogpt:
        parser.error("--nanogpt is needed, or leave it out by --only")
    if "ours" in args.only and (found := ModelParams.load(args.params).block_size) != CONTEXT:
        raise UserError(f"{args.params}: model.block_size is {found}, the race's is {CONTEXT}")
    with TemporaryDirectory() as name:
        tokens = write_tokens(args.train, args.validation, args.vocab_size, Path(name))
        race = Race(
            conditions(args),
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
            raise UserError(f"{log}: holds runs of other conditions; begin another log")
        run_all(race, args.only, args.seeds, args.rates, args.compile, log)
        print(table(read_log(log)))


if __name__ == "__main__":
    run_command(main)
