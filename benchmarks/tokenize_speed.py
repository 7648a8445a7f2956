"""How fast text becomes token ids: this project beside the usual way with Hugging Face `datasets`.

    pip install datasets==5.2.0
    python benchmarks/tokenize_speed.py --text FILE [--megabytes 44] [--rounds 3]

FILE holds documents separated by `<|endoftext|>`, and is repeated to so many megabytes. Both sides start from
the same Parquet file, have GPT-2's vocabulary loaded, use every core, and must write the same ids. The other
side does as nanoGPT's data/openwebtext/prepare.py: `Dataset.map` with tiktoken's `encode_ordinary`, then a
memory map filled shard by shard. Reading the Parquet file counts for this project, but not for the other
side, whose caches are new in every round. The sides take turns; medians are compared.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from hashlib import sha1
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tiktoken

sys.path.insert(0, str(Path(__file__).parents[1]))

from slm.corpus.documents import Document, write_corpus
from slm.corpus.params import DataFiles, DataParams
from slm.corpus.textfiles import read_files
from slm.params import run_command
from slm.tokens.bins import bin_dtype
from slm.tokens.encoding import Encoder, make_encoder, write_bin
from slm.tokens.tokenizer import gpt2, gpt2_files

TIKTOKEN_SOURCE = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
SHARDS = 64  # nanoGPT takes 1024, of 54 GB; so many would only slow the other side down here


def ours(parquet: Path, out: Path, encoder: Encoder) -> float:
    """Seconds for this project to encode the documents."""
    start = time.perf_counter()
    write_bin(parquet, out, encoder, bin_dtype(50257))
    return time.perf_counter() - start


def theirs(parquet: Path, out: Path, encoding: tiktoken.Encoding) -> float:
    """Seconds for `datasets` and a memory map to do so."""
    from datasets import Dataset

    def tokenize(example: dict[str, Any]) -> dict[str, Any]:
        ids = [*encoding.encode_ordinary(example["text"]), encoding.eot_token]
        return {"ids": ids, "n": len(ids)}

    with tempfile.TemporaryDirectory() as cache:
        documents = Dataset.from_parquet(str(parquet), cache_dir=cache)
        start = time.perf_counter()
        tokenized = documents.map(tokenize, remove_columns=["text"], num_proc=os.cpu_count())
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


def write_repeated(text: Path, megabytes: float, folder: Path) -> dict[str, Any]:
    """Write a corpus of the file's documents, repeated, and give the counts of its training split."""
    files = DataFiles(train=str(text), validation=str(text))
    params = DataParams.load().model_copy(update={"max_documents": None, "files": files})
    documents = [document for document in read_files(params) if document.split == "train"]
    copies = max(1, round(megabytes * 1e6 / text.stat().st_size))
    validation = Document("validation", "a corpus has two splits")
    return write_corpus([*documents * copies, validation], folder, {})["train"]


def tiktoken_gpt2(cache: Path) -> tiktoken.Encoding:
    """tiktoken's own GPT-2, which every process finds in its cache and none has to download."""
    for name, content in gpt2_files().items():
        (cache / sha1((TIKTOKEN_SOURCE + name).encode()).hexdigest()).write_bytes(content)
    os.environ["TIKTOKEN_CACHE_DIR"] = str(cache)
    return tiktoken.get_encoding("gpt2")


def machine() -> str:
    """What the figures were taken on."""
    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists():  # on Linux, which says more there
        models = [
            line.split(":")[1] for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = models[0].strip() if models else cpu
    packages = ", ".join(f"{name} {version(name)}" for name in ("tiktoken", "pyarrow", "numpy", "datasets"))
    return f"{cpu}, {os.cpu_count()} cores; Python {platform.python_version()}, {packages}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how fast text becomes token ids.")
    parser.add_argument("--text", type=Path, required=True, help="documents separated by <|endoftext|>")
    parser.add_argument(
        "--megabytes", type=float, default=44, help="how much text to make of it (default 44)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ |= {"SLM_PROGRESS": "off", "HF_HUB_OFFLINE": "1"}
    try:
        import datasets
    except ImportError:
        sys.exit("error: the other side needs: pip install datasets==5.2.0")
    datasets.disable_progress_bars()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = write_repeated(arguments.text, arguments.megabytes, folder)
        parquet, our_bin, their_bin = (folder / f for f in ("train.parquet", "ours.bin", "theirs.bin"))
        encoder, encoding = make_encoder(gpt2()), tiktoken_gpt2(folder)
        rounds = []
        for _ in range(arguments.rounds):
            rounds.append((ours(parquet, our_bin, encoder), theirs(parquet, their_bin, encoding)))
            if our_bin.read_bytes() != their_bin.read_bytes():
                sys.exit("error: the two sides wrote different ids")
        our_seconds, their_seconds = (median(seconds) for seconds in zip(*rounds, strict=True))

    size = counts["bytes"] / 1e6
    print(f"{size:.1f} MB of text in {counts['documents']:,} documents, medians of {len(rounds)} rounds:\n")
    print("| | seconds | MB/s | |\n|---|---:|---:|---:|")
    for side, seconds in (("this project", our_seconds), ("`datasets.map`, memory map", their_seconds)):
        print(f"| {side} | {seconds:.2f} | {size / seconds:.1f} | {their_seconds / seconds:.1f}× |")
    print(f"\n{machine()}")


if __name__ == "__main__":
    run_command(main)
