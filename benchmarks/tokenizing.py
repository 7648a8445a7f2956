"""How fast text becomes token ids: this project beside the usual way with Hugging Face `datasets`.

    python -m benchmarks.tokenizing --text FILE [--megabytes 44] [--rounds 3] [--processes 2]

FILE holds documents separated by `<|endoftext|>`, and is repeated to so many megabytes. This project does
what its stage does, on all cores: it loads GPT-2's vocabulary, reads the Parquet files, encodes and writes
the bins. The other side does as nanoGPT's data/openwebtext/prepare.py: `Dataset.map` with tiktoken's
`encode_ordinary`, then a memory map filled shard by shard, but in 64 shards: its 1024 are for 54 GB and make
it slower here. It has its vocabulary and the documents loaded before its clock starts, and its caches are new
in every round. Both must write the same ids. The limit is
tiktoken alone, on as many threads as there are cores, with nothing read or written. All take turns; medians
are compared.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tiktoken

from slm.core.errors import UserError, run_command
from slm.data.documents import Document, read_documents, write_corpus
from slm.data.params import DataFiles, DataParams
from slm.data.textfiles import read_files
from slm.tokenizer.encode import write_bins
from slm.tokenizer.params import TokenizerParams
from slm.tokenizer.tokenizer import END_OF_TEXT, gpt2_files

TIKTOKEN_SOURCE = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"


def ours(folder: Path) -> float:
    """Seconds for this project to tokenize the corpus."""
    start = time.perf_counter()
    gpt2 = TokenizerParams(type="gpt2", vocab_size=257)  # the size is of `bpe` alone
    write_bins(folder, folder / "tokens", folder / "tokenizer.json", gpt2)
    return time.perf_counter() - start


def theirs(folder: Path, encoding: tiktoken.Encoding, n_processes: int, n_shards: int) -> float:
    """Seconds for `datasets` and a memory map to tokenize the training split."""
    from datasets import Dataset

    def tokenize(example: dict[str, Any]) -> dict[str, Any]:
        ids = [*encoding.encode_ordinary(example["text"]), encoding.eot_token]
        return {"ids": ids, "len": len(ids)}

    with tempfile.TemporaryDirectory() as cache:
        documents = Dataset.from_parquet(str(folder / "train.parquet"), cache_dir=cache)
        start = time.perf_counter()
        tokenized = documents.map(tokenize, remove_columns=["text"], num_proc=n_processes)
        n_tokens = int(np.sum(tokenized["len"], dtype=np.uint64))
        tokens = np.memmap(folder / "theirs.bin", dtype=np.uint16, mode="w+", shape=(n_tokens,))
        done = 0
        for index in range(n_shards):
            shard = tokenized.shard(num_shards=n_shards, index=index, contiguous=True).with_format("numpy")
            ids = np.concatenate(shard["ids"])
            tokens[done : done + len(ids)] = ids
            done += len(ids)
        tokens.flush()
        return time.perf_counter() - start


def limit(folder: Path, encoding: tiktoken.Encoding) -> float:
    """Seconds for tiktoken to encode the training split, which lies in memory."""
    texts = [END_OF_TEXT.join([*texts, ""]) for texts in read_documents(folder / "train.parquet")]

    def encode(text: str) -> int:
        return len(encoding.encode_to_numpy(text, allowed_special={END_OF_TEXT}))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        start = time.perf_counter()
        list(threads.map(encode, texts))
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure how fast text becomes token ids.")
    parser.add_argument("--text", type=Path, required=True, help="documents separated by <|endoftext|>")
    parser.add_argument("--megabytes", type=float, default=44, help="how much text to make of it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2, help="of the other side")
    parser.add_argument("--shards", type=int, default=64, help="of the other side")
    arguments = parser.parse_args()
    os.environ |= {"SLM_PROGRESS": "off", "HF_HUB_OFFLINE": "1"}
    import datasets  # reads the environment

    from benchmarks.peers import machine

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts, encoding = write_repeated(arguments.text, arguments.megabytes, folder), tiktoken_gpt2(folder)
        if counts["documents"] < arguments.shards:
            raise UserError(f"{counts['documents']} documents are fewer than the shards: raise --megabytes")
        sides: dict[str, Callable[[], float]] = {
            "this project": lambda: ours(folder),
            "`datasets.map`, memory map": lambda: theirs(
                folder, encoding, arguments.processes, arguments.shards
            ),
            "limit: tiktoken alone": lambda: limit(folder, encoding),
        }
        rounds = []
        for _ in range(arguments.rounds):
            rounds.append([measure() for measure in sides.values()])
            if (folder / "tokens/train.bin").read_bytes() != (folder / "theirs.bin").read_bytes():
                raise UserError("the two sides wrote different ids")

    size, (our_seconds, their_seconds, least) = counts["bytes"] / 1e6, map(median, zip(*rounds, strict=True))
    print("| | seconds | MB/s | × `datasets` |\n|---|---:|---:|---:|")
    for side, seconds in zip(sides, (our_seconds, their_seconds, least), strict=True):
        print(f"| {side} | {seconds:.2f} | {size / seconds:.1f} | {their_seconds / seconds:.1f} |")
    what = f"{size:.1f} MB of text in {counts['documents']:,} documents, medians of {len(rounds)} rounds"
    packages = machine("tiktoken", "pyarrow", "numpy", "datasets")
    print(
        f"\n{what}; `datasets` with {arguments.processes} processes, {arguments.shards} shards. {packages}."
    )


if __name__ == "__main__":
    run_command(main)
