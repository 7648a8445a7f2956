"""Sizes, corpus, recipes and records of the GPU validation (benchmarks/gpu.py).

This module does not import torch, because each process that generates the corpus imports it.
"""

import json
import math
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from slm.core.config import read_yaml
from slm.tokenizer.bins import SplitMeta, TokensMeta, bin_dtype, write_meta
from slm.tokenizer.tokenizer import END_OF_TEXT, end_of_text_id, load, tiktoken_encoding, train_bpe
from storygrammar.grammar.generator import stories

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes/stories-gpu.yaml"
# Seeds of the corpus: one per process, and one each for validation and tokenizer.
FIRST_TRAIN_SEED, VALIDATION_SEED, TOKENIZER_SEED = 1000, 1, 2
# A container may see more cores than it has.
MAX_PROCESSES = 32
# Stories that are encoded at a time.
CHUNK = 2_000
ENTROPY = "entropy.json"


class Settings(NamedTuple):
    """The sizes of a validation."""

    max_stories: int
    stories_per_core: int
    validation_stories: int
    tokenizer_stories: int
    # Phases correct and resume.
    correct_steps: int
    correct_batch: int
    eval_tokens: int
    # Architectures to train; `-eager`: not compiled.
    resume: tuple[str, ...]
    resume_steps: int
    # Phase speed: seconds per measurement.
    measure_seconds: float
    matmul_size: int
    # Phase learn: training time, samples, and tokens of the n-gram model.
    learn_seconds: float
    num_samples: int
    ngram_tokens: int
    # Phase generate.
    batch_sizes: tuple[int, ...]
    new_tokens: int


GPU = Settings(
    max_stories=1_000_000,
    stories_per_core=62_500,
    validation_stories=2_000,
    tokenizer_stories=20_000,
    correct_steps=50,
    correct_batch=8,
    eval_tokens=8192,
    resume=("gpt2", "rope", "rope-eager"),
    resume_steps=200,
    measure_seconds=1.5,
    matmul_size=8192,
    learn_seconds=60,
    num_samples=128,
    ngram_tokens=20_000_000,
    batch_sizes=(1, 64, 512),
    new_tokens=200,
)
CPU = Settings(
    max_stories=2_000,
    stories_per_core=1_000,
    validation_stories=50,
    tokenizer_stories=1_000,
    correct_steps=8,
    correct_batch=4,
    eval_tokens=512,
    resume=("rope",),
    resume_steps=24,
    measure_seconds=0.1,
    matmul_size=512,
    learn_seconds=3,
    num_samples=4,
    ngram_tokens=100_000,
    batch_sizes=(1, 4),
    new_tokens=10,
)
# Applied to every recipe on a CPU, so that a step takes milliseconds.
MINIATURE = {
    "tokenizer": {"vocab_size": 512},
    "model": {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 32},
    "train": {"batch_size": 4, "grad_accum_steps": 2},
}
# The model of phase learn while there is no RECIPE: 22.8M parameters.
LEARN = {
    "model": {"n_layer": 12, "n_head": 6, "n_embd": 384, "block_size": 512},
    "train": {"batch_size": 64, "learning_rate": 3e-3, "eval_tokens": 100_000},
}


class SkippedError(Exception):
    """A check that this device cannot run, or for which there is no time. The message says why."""


class Context(NamedTuple):
    """What a phase needs: the output folder, the device, a deadline, and an optional checkout of nanoGPT."""

    phase: str
    out: Path
    is_cpu: bool
    # The value of time.monotonic() at which the process is killed.
    deadline: float = math.inf
    nanogpt: Path | None = None

    @property
    def settings(self) -> Settings:
        """Return the sizes for this device."""
        return CPU if self.is_cpu else GPU

    @property
    def seconds_left(self) -> float:
        """Return the time until the process is killed."""
        return self.deadline - time.monotonic()

    def record(self, check: str, verdict: str = "measured", **values: Any) -> None:
        """Append a result to results.jsonl and to the log at once, so that a later crash cannot lose it."""
        line = json.dumps({"phase": self.phase, "check": check, "verdict": verdict, **values})
        with (self.out / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        print(line, file=sys.stderr, flush=True)

    def params(self, recipe: str) -> dict[str, Any]:
        """Return params.yaml with a recipe applied: a name in recipes/, `quickstart` or `learn`."""
        values = read_yaml(ROOT / "params.yaml")
        if recipe == "learn":
            values = merge(values, read_yaml(RECIPE) if RECIPE.exists() else LEARN)
        elif recipe != "quickstart":
            values = merge(values, read_yaml(ROOT / f"recipes/{recipe}.yaml"))
        return merge(values, MINIATURE) if self.is_cpu else values


def merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return nested values with changes applied."""
    merged = dict(values)
    for key, change in changes.items():
        old = merged.get(key)
        merged[key] = merge(old, change) if isinstance(old, dict) and isinstance(change, dict) else change
    return merged


def read_records(out: Path) -> list[dict[str, Any]]:
    """Return the results so far."""
    path = out / "results.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def make_corpus(context: Context) -> None:
    """Generate stories on all cores; write token bins, tokenizer and entropy to the folder `corpus`."""
    settings, folder = context.settings, context.out / "corpus"
    folder.mkdir(parents=True, exist_ok=True)
    vocab_size = context.params("learn")["tokenizer"]["vocab_size"]
    texts = (story.text for story in islice(stories(TOKENIZER_SEED), settings.tokenizer_stories))
    tokenizer = train_bpe(texts, vocab_size)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")

    # One part of the training split per process, each with its own seed.
    n_cores = min(os.cpu_count() or 1, MAX_PROCESSES)
    n_stories = min(settings.max_stories, settings.stories_per_core * n_cores)
    jobs = [
        (folder, f"part-{i}", FIRST_TRAIN_SEED + i, n_stories * (i + 1) // n_cores - n_stories * i // n_cores)
        for i in range(n_cores)
    ]
    jobs.append((folder, "validation", VALIDATION_SEED, settings.validation_stories))
    with ProcessPoolExecutor(n_cores, mp_context=get_context("spawn")) as pool:
        *parts, validation = pool.map(write_split, *zip(*jobs, strict=True))
    with (folder / "train.bin").open("wb") as file:
        for job in jobs[:-1]:
            path = folder / f"{job[1]}.bin"
            file.write(path.read_bytes())
            path.unlink()
    train = SplitMeta(**{name: sum(part[0][name] for part in parts) for name in parts[0][0]})
    sizes = {"vocab_size": vocab_size, "end_of_text": end_of_text_id(tokenizer)}
    dtype = bin_dtype(vocab_size).name
    meta = TokensMeta(**sizes, dtype=dtype, train=train, validation=SplitMeta(**validation[0]))
    write_meta(folder, meta)
    bits_per_byte = validation[1] / validation[0]["bytes"]
    (folder / ENTROPY).write_text(json.dumps(bits_per_byte), encoding="utf-8")
    counts = {"stories": train.documents, "tokens": train.tokens}
    context.record("corpus", **counts, entropy_bits_per_byte=round(bits_per_byte, 5))


def write_split(folder: Path, name: str, seed: int, n_stories: int) -> tuple[dict[str, int], float]:
    """Write the ids of the first stories of a seed; return the counts of SplitMeta and the total entropy."""
    tokenizer = load(folder / "tokenizer.json")
    encoding, dtype = tiktoken_encoding(tokenizer), bin_dtype(tokenizer.get_vocab_size())
    counts, bits = {"tokens": 0, "documents": 0, "bytes": 0}, 0.0
    source = islice(stories(seed), n_stories)
    with (folder / f"{name}.bin").open("wb") as file:
        while chunk := list(islice(source, CHUNK)):
            text = "".join(story.text + END_OF_TEXT for story in chunk)
            ids = encoding.encode_to_numpy(text, allowed_special={END_OF_TEXT})
            file.write(ids.astype(dtype).data)
            counts["tokens"] += len(ids)
            counts["documents"] += len(chunk)
            counts["bytes"] += sum(len(story.text.encode()) for story in chunk)
            bits += sum(story.bits for story in chunk)
    return counts, bits


def entropy(out: Path) -> float:
    """Return the entropy of the validation split in bits per byte."""
    value: float = json.loads((out / "corpus" / ENTROPY).read_text(encoding="utf-8"))
    return value
