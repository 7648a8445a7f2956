"""Time and memory from nothing to the first training step, as the text grows. Linux only: it reads /proc.

    python -m benchmarks.scale [--megabytes 10 100 1000 2000] [--source synthetic hub] [--tokenizer bpe]

Source `synthetic` tells stories of the grammar as it goes; `hub` reads such stories from Parquet shards in
TinyStories' layout, written beforehand, by the real client from a server on loopback. Each stage is a process
of its own in a copy of the project. Memory is the peak of RssAnon, what is neither a file's nor shared,
summed over the stage's process tree and sampled every 50 ms; the server is not in it, though it takes its
share of the cores. At 2 GB it needs about 3 GB of disk in the folder for temporary files (TMPDIR).
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from slm.core.errors import UserError, run_command
from slm.core.files import read_json
from slm.tokenizer.bins import read_meta
from storygrammar.grammar.generator import stories
from tests.hub import serve
from tests.project import clone
from tests.tiny import HUB

SOURCES = ("synthetic", "hub")
STAGES = {"download": "download", "tokenize": "tokenize", "train": "first step"}  # and their names here
STORY_BYTES = 632  # on average
SHARD_STORIES = 250_000_000 // STORY_BYTES
GROUP_STORIES = 1000
VALIDATION_STORIES = 2000
STEADY_MEGABYTES = 100  # below, start-up counts, and the tokenizer is trained on all of the text

MODEL = {"n_layer": 2, "n_head": 4, "n_embd": 128, "block_size": 256}
TRAIN = {"batch_size": 8, "grad_accum_steps": 1, "max_steps": 1, "warmup_steps": 0, "eval_tokens": 2000}


class Row(NamedTuple):
    """What was measured of one source at one size; seconds and MiB of each stage."""

    source: str
    megabytes: float  # of text, as the corpus counts it
    documents: int
    tokens: int
    seconds: list[float]
    mebibytes: list[float]

    def markdown(self) -> str:
        total = self.megabytes / sum(self.seconds)
        cells = [self.source, f"{self.megabytes:,.1f}", f"{self.documents:,}", f"{self.tokens:,}"]
        cells += [f"{s:.1f} ({self.megabytes / s:.1f})" for s in self.seconds]
        return f"| {' | '.join([*cells, f'{total:.2f}', *(f'{m:,.0f}' for m in self.mebibytes)])} |"


def measure(source: str, megabytes: int, tokenizer: str, folder: Path) -> Row:
    """Run the stages on so much text of a source, in an empty folder."""
    n_stories = megabytes * 1_000_000 // STORY_BYTES
    data = {"source": source, "max_validation_documents": None, "hub": HUB}
    data["max_documents"] = n_stories if source == "synthetic" else None  # all of the dataset
    data["validation_fraction"] = min(0.02, VALIDATION_STORIES / n_stories)  # of synthetic
    params = {"data": data, "tokenizer": {"type": tokenizer, "vocab_size": 4096}}
    project = clone(folder / "project", {**params, "model": MODEL, "train": TRAIN})
    if source == "hub":
        write_dataset(folder / "hub" / HUB["name"] / HUB["revision"] / "data", n_stories)
    with serve(folder / "hub") as hub:
        private = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "home"), "TMPDIR": str(folder)}
        environment = {**os.environ, **private}
        seconds, mebibytes = zip(*(run(stage, project, environment) for stage in STAGES), strict=True)
    splits = [read_json(project / "data/corpus/summary.json")[split] for split in ("train", "validation")]
    meta = read_meta(project / "data/tokens")
    size, documents = (sum(split[key] for split in splits) for key in ("bytes", "documents"))
    return Row(source, size / 1e6, documents, meta.train.tokens + meta.validation.tokens, seconds, mebibytes)


def write_dataset(folder: Path, n_stories: int) -> None:
    """Write stories as TinyStories lies on the Hub: shards to train on, and one to measure on."""
    texts = (story.text for story in stories(seed=1))
    folder.mkdir(parents=True)
    write_shard(folder / "validation-00000-of-00001.parquet", islice(texts, VALIDATION_STORIES))
    starts = range(0, n_stories, SHARD_STORIES)
    for i, start in enumerate(starts):
        path = folder / f"train-{i:05d}-of-{len(starts):05d}.parquet"
        write_shard(path, islice(texts, min(SHARD_STORIES, n_stories - start)))


def write_shard(path: Path, texts: Iterator[str]) -> None:
    """Write a Parquet file, GROUP_STORIES in each row group."""
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
        while group := list(islice(texts, GROUP_STORIES)):
            writer.write_table(pa.table({"text": group}))


def run(stage: str, project: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Run a stage; how many seconds it took, and the peak of its processes' memory in MiB."""
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, "-m", f"stages.{stage}"], cwd=project, env=environment)
    try:
        while process.poll() is None:
            peak = max(peak, anonymous_kibibytes(process.pid))
            time.sleep(0.05)
    finally:
        process.kill()  # no harm if it has ended
        process.wait()  # it writes to the folder that is to be removed
    if process.returncode:
        raise UserError(f"stage {stage} ended with status {process.returncode}")
    return time.perf_counter() - start, peak / 1024


def anonymous_kibibytes(pid: int) -> int:
    """RssAnon of a process and its descendants (man 5 proc); what has ended meanwhile counts nothing."""
    found = re.search(r"RssAnon:\s+(\d+)", read_proc(Path(f"/proc/{pid}/status")))
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for path in threads for child in read_proc(path).split()]
    return (int(found[1]) if found else 0) + sum(map(anonymous_kibibytes, children))


def read_proc(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def compare(small: Row, large: Row) -> str:
    """How far time is from linear and memory from flat: both ratios are 1 if they are."""
    per_megabyte = [sum(row.seconds) / row.megabytes for row in (small, large)]
    pairs = zip(STAGES.values(), small.mebibytes, large.mebibytes, strict=True)
    memory = ", ".join(f"{name} × {after / before:.2f}" for name, before, after in pairs)
    time_and_memory = f"time a MB × {per_megabyte[1] / per_megabyte[0]:.2f}; peak memory: {memory}"
    return f"{small.source}, {small.megabytes:,.0f} to {large.megabytes:,.0f} MB: {time_and_memory}"


def main() -> None:
    """Print a row as soon as it is measured, and what the rows come to."""
    parser = argparse.ArgumentParser(description="Measure time and memory as the text grows.")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[10, 100, 1000, 2000], help="of text")
    parser.add_argument("--source", nargs="+", choices=SOURCES, default=SOURCES)
    parser.add_argument("--tokenizer", choices=("bpe", "gpt2"), default="bpe", help="bpe: of 4096 tokens")
    arguments = parser.parse_args()
    if min(arguments.megabytes) < 1:
        parser.error("--megabytes: must be at least 1")
    columns = ["source", "MB of text", "documents", "tokens", *(f"{n} s (MB/s)" for n in STAGES.values())]
    columns += ["MB/s overall", *(f"{name} MiB" for name in STAGES.values())]
    print(f"| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}", flush=True)
    comparisons = []
    for source in arguments.source:
        steady = []
        for megabytes in sorted(arguments.megabytes):
            with TemporaryDirectory() as folder:
                row = measure(source, megabytes, arguments.tokenizer, Path(folder))
            print(row.markdown(), flush=True)
            steady += [row] if megabytes >= STEADY_MEGABYTES else []
        if len(steady) > 1:
            comparisons.append(compare(steady[0], steady[-1]))
    print("", *comparisons, sep="\n")


if __name__ == "__main__":
    run_command(main)
