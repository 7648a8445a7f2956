"""How fast text becomes token ids: this project beside the usual way with Hugging Face `datasets`.

    pip install datasets==5.2.0
    python benchmarks/tokenize_speed.py --text FILE [--copies N] [--rounds 3]

FILE holds documents separated by `<|endoftext|>`; by default it is repeated to about 44 MB. Both sides find
the documents in a Parquet file, have GPT-2's vocabulary loaded, use every core, and must write the same ids.
The other way is that of nanoGPT's data/openwebtext/prepare.py: `Dataset.map` with tiktoken's
`encode_ordinary`, then a memory map filled shard by shard. Reading the Parquet file counts for this project
but not for the other side, whose caches are new in every round. The sides take turns; medians are compared.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from slm.corpus.documents import Document, read_documents, write_corpus
from slm.corpus.params import DataFiles, DataParams
from slm.corpus.textfiles import read_files
from slm.tokens.bins import bin_dtype
from slm.tokens.encoding import gpt2_encoder, write_bin
from slm.tokens.tokenizer import gpt2_encoding

SHARDS = 64  # nanoGPT takes 1024, of 54 GB; so many would only slow the other side down here


def ours(parquet: Path, out: Path) -> float:
    """Seconds for this project to encode the documents."""
    encoder = gpt2_encoder()
    start = time.perf_counter()
    write_bin(read_documents(parquet), encoder, bin_dtype(50257), out, "train")
    return time.perf_counter() - start


def theirs(parquet: Path, out: Path, cache: Path) -> float:
    """Seconds for `datasets` and a memory map to do so."""
    from datasets import Dataset

    encoding = gpt2_encoding()

    def tokenize(example: dict[str, Any]) -> dict[str, Any]:
        ids = [*encoding.encode_ordinary(example["text"]), encoding.eot_token]
        return {"ids": ids, "n": len(ids)}

    documents = Dataset.from_parquet(str(parquet), cache_dir=str(cache))
    start = time.perf_counter()
    tokenized = documents.map(
        tokenize, remove_columns=["text"], num_proc=os.cpu_count(), load_from_cache_file=False
    )
    n_tokens = int(np.sum(tokenized["n"], dtype=np.uint64))
    tokens = np.memmap(out, dtype=np.uint16, mode="w+", shape=(n_tokens,))
    done = 0
    for index in range(SHARDS):
        shard = tokenized.shard(num_shards=SHARDS, index=index, contiguous=True).with_format("numpy")
        ids = np.concatenate(shard["ids"])
        tokens[done : done + len(ids)] = ids
        done += len(ids)
    tokens.flush()
    return time.perf_counter() - start


def repeated(text: Path, copies: int) -> Iterator[Document]:
    """The documents of a text file, several times, and one more as validation, which must not be empty."""
    files = DataFiles(train=str(text), validation=str(text))
    params = DataParams(source="files", max_documents=None, validation_fraction=0.5, seed=0, files=files)
    for _ in range(copies):
        yield from (document for document in read_files(params) if document.split == "train")
    yield from islice((document for document in read_files(params) if document.split == "validation"), 1)


def machine() -> str:
    """What the figures were taken on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":")[1].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("tiktoken", "tokenizers", "pyarrow", "datasets")
    )
    return f"{cpu}, {os.cpu_count()} cores; Python {platform.python_version()}, {packages}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast text becomes token ids.")
    parser.add_argument("--text", type=Path, required=True, help="documents separated by <|endoftext|>")
    parser.add_argument("--copies", type=int, help="how often to repeat them (by default to about 44 MB)")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    copies = arguments.copies or max(1, round(44e6 / arguments.text.stat().st_size))
    os.environ.setdefault("SLM_PROGRESS", "off")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import datasets
    except ImportError:
        sys.exit("error: the other side needs: pip install datasets==5.2.0")
    datasets.disable_progress_bars()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        summary = write_corpus(repeated(arguments.text, copies), folder, {})
        megabytes = summary["train"]["bytes"] / 1e6
        parquet, a, b = folder / "train.parquet", folder / "ours.bin", folder / "theirs.bin"
        seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for number in range(arguments.rounds):
            seconds["ours"].append(ours(parquet, a))
            seconds["theirs"].append(theirs(parquet, b, folder / f"cache-{number}"))
            if a.read_bytes() != b.read_bytes():
                sys.exit("error: the two sides wrote different ids")
    speed = {side: megabytes / statistics.median(times) for side, times in seconds.items()}

    print(
        f"{megabytes:.1f} MB of text, {summary['train']['documents']:,} documents, "
        f"medians of {arguments.rounds} rounds\n"
    )
    print("| | seconds | MB/s | |\n|---|---:|---:|---:|")
    for side, title in (("ours", "this project"), ("theirs", "`datasets.map`, memory map")):
        median = statistics.median(seconds[side])
        print(f"| {title} | {median:.2f} | {speed[side]:.1f} | {speed[side] / speed['theirs']:.1f}× |")
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
