"""Measure time and memory up to the first training step by the size of the text. Linux only: it reads /proc.

    python -m benchmarks.scale [--megabytes 10 100 1000 2000] [--source synthetic hub] [--tokenizer bpe]

Source `synthetic` generates stories of the grammar. Source `hub` downloads such stories with the client of
the Hub from a local server, as Parquet shards in the layout of TinyStories. Each stage is a process in a copy
of the project. Memory is the peak of RssAnon (neither files nor shared memory), summed over the processes of
the stage and sampled every 50 ms. It excludes the server, which uses some of the CPU time. 2 GB of text need
about 3 GB of disk in the folder for temporary files (TMPDIR).
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
# Name in the table by stage.
STAGES = {"download": "download", "tokenize": "tokenize", "train": "first step"}
# Mean size of a story.
STORY_BYTES = 632
SHARD_STORIES = 250_000_000 // STORY_BYTES
GROUP_STORIES = 1000
VALIDATION_STORIES = 2000
# Scaling is measured from this size on: below it, start-up matters, and the tokenizer trains on all text.
MIN_SCALING_MEGABYTES = 100

MODEL = {"n_layer": 2, "n_head": 4, "n_embd": 128, "block_size": 256}
TRAIN = {
    "batch_size": 8,
    "grad_accum_steps": 1,
    "max_steps": 1,
    "warmup_steps": 0,
    "decay_steps": 0,
    "eval_tokens": 2000,
}


class Row(NamedTuple):
    """The measurements for one source and one size, with seconds and MiB for each stage."""

    source: str
    # Size of the text.
    megabytes: float
    documents: int
    tokens: int
    seconds: list[float]
    mebibytes: list[float]

    def markdown(self) -> str:
        """Return the row as Markdown."""
        total = self.megabytes / sum(self.seconds)
        cells = [self.source, f"{self.megabytes:,.1f}", f"{self.documents:,}", f"{self.tokens:,}"]
        cells += [f"{s:.1f} ({self.megabytes / s:.1f})" for s in self.seconds]
        return f"| {' | '.join([*cells, f'{total:.2f}', *(f'{m:,.0f}' for m in self.mebibytes)])} |"


def measure(source: str, megabytes: int, tokenizer: str, folder: Path) -> Row:
    """Run the stages on text of a given size in an empty folder."""
    n_stories = megabytes * 1_000_000 // STORY_BYTES
    data = {"source": source, "max_validation_documents": None, "hub": HUB}
    # The dataset is read completely. Its splits exist already, so the fraction is for `synthetic` only.
    data["max_documents"] = n_stories if source == "synthetic" else None
    data["validation_fraction"] = min(0.02, VALIDATION_STORIES / n_stories)
    params = {"data": data, "tokenizer": {"type": tokenizer, "vocab_size": 4096}}
    project = clone(folder / "project", {**params, "model": MODEL, "train": TRAIN})
    if source == "hub":
        write_dataset(folder / "hub" / HUB["name"] / HUB["revision"] / "data", n_stories)
    with serve(folder / "hub") as hub:
        overrides = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "home"), "TMPDIR": str(folder)}
        environment = {**os.environ, **overrides}
        seconds, mebibytes = zip(*(run(stage, project, environment) for stage in STAGES), strict=True)
    splits = [read_json(project / "data/corpus/summary.json")[split] for split in ("train", "validation")]
    meta = read_meta(project / "data/tokens")
    size, documents = (sum(split[key] for split in splits) for key in ("bytes", "documents"))
    return Row(source, size / 1e6, documents, meta.train.tokens + meta.validation.tokens, seconds, mebibytes)


def write_dataset(folder: Path, n_stories: int) -> None:
    """Write stories in the layout of TinyStories on the Hub: training shards and one validation shard."""
    texts = (story.text for story in stories(seed=1))
    folder.mkdir(parents=True)
    write_shard(folder / "validation-00000-of-00001.parquet", islice(texts, VALIDATION_STORIES))
    starts = range(0, n_stories, SHARD_STORIES)
    for i, start in enumerate(starts):
        path = folder / f"train-{i:05d}-of-{len(starts):05d}.parquet"
        write_shard(path, islice(texts, min(SHARD_STORIES, n_stories - start)))


def write_shard(path: Path, texts: Iterator[str]) -> None:
    """Write a Parquet file with GROUP_STORIES documents per row group."""
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
        while group := list(islice(texts, GROUP_STORIES)):
            writer.write_table(pa.table({"text": group}))


def run(stage: str, project: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Run a stage. Return its duration in seconds, and the peak memory of its processes in MiB."""
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen([sys.executable, "-m", f"stages.{stage}"], cwd=project, env=environment)
    try:
        while process.poll() is None:
            peak = max(peak, anonymous_kibibytes(process.pid))
            time.sleep(0.05)
    finally:
        # After an error, end the stage before its folder is removed.
        process.kill()
        process.wait()
    if process.returncode:
        raise UserError(f"stage {stage} failed with exit code {process.returncode}")
    return time.perf_counter() - start, peak / 1024


def anonymous_kibibytes(pid: int) -> int:
    """Return RssAnon of a process and its descendants (man 5 proc), without those that have ended."""
    match = re.search(r"RssAnon:\s+(\d+)", read_proc(Path(f"/proc/{pid}/status")))
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for path in threads for child in read_proc(path).split()]
    return (int(match[1]) if match else 0) + sum(map(anonymous_kibibytes, children))


def read_proc(path: Path) -> str:
    """Return a file of /proc, or nothing if its process has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


def compare(small: Row, large: Row) -> str:
    """Return the ratios of time per MB and of memory: 1 is linear time and constant memory."""
    per_megabyte = [sum(row.seconds) / row.megabytes for row in (small, large)]
    pairs = zip(STAGES.values(), small.mebibytes, large.mebibytes, strict=True)
    memory = ", ".join(f"{name} × {after / before:.2f}" for name, before, after in pairs)
    ratios = f"time per MB × {per_megabyte[1] / per_megabyte[0]:.2f}; peak memory: {memory}"
    return f"{small.source}, {small.megabytes:,.0f} to {large.megabytes:,.0f} MB: {ratios}"


def main() -> None:
    """Print a row of the table after each measurement, then the scaling of each source."""
    parser = argparse.ArgumentParser(description="Measure time and memory by the size of the text.")
    parser.add_argument(
        "--megabytes",
        type=int,
        nargs="+",
        default=[10, 100, 1000, 2000],
        help="sizes of the text in MB (default: %(default)s)",
    )
    parser.add_argument(
        "--source", nargs="+", choices=SOURCES, default=SOURCES, help="sources of the text (default: all)"
    )
    parser.add_argument(
        "--tokenizer",
        choices=("bpe", "gpt2"),
        default="bpe",
        help="type of the tokenizer; bpe has 4096 tokens (default: %(default)s)",
    )
    args = parser.parse_args()
    if min(args.megabytes) < 1:
        parser.error("--megabytes: must be at least 1")
    columns = ["source", "MB of text", "documents", "tokens", *(f"{n} s (MB/s)" for n in STAGES.values())]
    columns += ["MB/s overall", *(f"{name} MiB" for name in STAGES.values())]
    print(f"| {' | '.join(columns)} |\n|---|{'---:|' * (len(columns) - 1)}", flush=True)
    comparisons = []
    for source in args.source:
        rows = []
        for megabytes in sorted(args.megabytes):
            with TemporaryDirectory() as folder:
                row = measure(source, megabytes, args.tokenizer, Path(folder))
            print(row.markdown(), flush=True)
            rows += [row] if megabytes >= MIN_SCALING_MEGABYTES else []
        if len(rows) > 1:
            comparisons.append(compare(rows[0], rows[-1]))
    print("", *comparisons, sep="\n")


if __name__ == "__main__":
    run_command(main)
