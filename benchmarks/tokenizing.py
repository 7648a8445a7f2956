"""Measure tokenization throughput: this project, nanoGPT's way with Hugging Face `datasets`, and tiktoken.

    python -m benchmarks.tokenizing --text FILE [--megabytes 44] [--rounds 3] [--processes 2]

FILE holds documents separated by `<|endoftext|>`; it is repeated up to the given size. This project runs its
stage on all cores: it loads GPT-2's vocabulary, reads the Parquet files, encodes them and writes the bins.
The reference follows nanoGPT's data/openwebtext/prepare.py: `Dataset.map` with tiktoken's `encode_ordinary`,
then writes shards to a memory map. It has 64 shards: the 1024 of nanoGPT are for 54 GB and slower here. Its
time excludes loading the vocabulary and the documents, and its cache is empty in every round. Both must write
the same ids. The upper limit is tiktoken alone, on one thread per core, without reading or writing. All are
measured in interleaved rounds, and medians are compared.
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


def measure_slm(folder: Path) -> float:
    """Return the seconds of this project to tokenize the corpus."""
    start = time.perf_counter()
    # The size is required, but used for `bpe` only.
    gpt2 = TokenizerParams(type="gpt2", vocab_size=257)
    write_bins(folder, folder / "tokens", folder / "tokenizer.json", gpt2)
    return time.perf_counter() - start


def measure_datasets(folder: Path, encoding: tiktoken.Encoding, n_processes: int, n_shards: int) -> float:
    """Return the seconds of `datasets` to tokenize the training split into a memory map."""
    from datasets import Dataset

    def tokenize(example: dict[str, Any]) -> dict[str, Any]:
        ids = [*encoding.encode_ordinary(example["text"]), encoding.eot_token]
        return {"ids": ids, "len": len(ids)}

    with tempfile.TemporaryDirectory() as cache:
        documents = Dataset.from_parquet(str(folder / "train.parquet"), cache_dir=cache)
        start = time.perf_counter()
        tokenized = documents.map(tokenize, remove_columns=["text"], num_proc=n_processes)
        n_tokens = int(np.sum(tokenized["len"], dtype=np.uint64))
        tokens = np.memmap(folder / "reference.bin", dtype=np.uint16, mode="w+", shape=(n_tokens,))
        n_written = 0
        for index in range(n_shards):
            shard = tokenized.shard(num_shards=n_shards, index=index, contiguous=True).with_format("numpy")
            ids = np.concatenate(shard["ids"])
            tokens[n_written : n_written + len(ids)] = ids
            n_written += len(ids)
        tokens.flush()
        return time.perf_counter() - start


def measure_tiktoken(folder: Path, encoding: tiktoken.Encoding) -> float:
    """Return the seconds of tiktoken to encode the training split in memory."""
    texts = [END_OF_TEXT.join([*texts, ""]) for texts in read_documents(folder / "train.parquet")]

    def encode(text: str) -> int:
        return len(encoding.encode_to_numpy(text, allowed_special={END_OF_TEXT}))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        start = time.perf_counter()
        list(threads.map(encode, texts))
        return time.perf_counter() - start


def write_repeated(text: Path, megabytes: float, folder: Path) -> dict[str, Any]:
    """Write a corpus that repeats the documents of the file. Return the counts of its training split."""
    files = DataFiles(train=str(text), validation=str(text))
    params = DataParams.load().model_copy(update={"max_documents": None, "files": files})
    documents = [document for document in read_files(params) if document.split == "train"]
    copies = max(1, round(megabytes * 1e6 / text.stat().st_size))
    # A corpus needs both splits.
    validation = Document("validation", "a corpus has two splits")
    return write_corpus([*documents * copies, validation], folder, {})["train"]


def tiktoken_gpt2(cache: Path) -> tiktoken.Encoding:
    """Return GPT-2 of tiktoken, from a cache that spares every process the download."""
    # tiktoken names the files in its cache by the SHA-1 of their URL.
    for name, content in gpt2_files().items():
        (cache / sha1((TIKTOKEN_SOURCE + name).encode()).hexdigest()).write_bytes(content)
    os.environ["TIKTOKEN_CACHE_DIR"] = str(cache)
    return tiktoken.get_encoding("gpt2")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure tokenization throughput.")
    parser.add_argument(
        "--text", type=Path, required=True, help="text file with documents separated by <|endoftext|>"
    )
    parser.add_argument(
        "--megabytes",
        type=float,
        default=44,
        help="size up to which the text is repeated, in MB (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default: %(default)s)")
    parser.add_argument(
        "--processes", type=int, default=2, help="processes of the reference (default: %(default)s)"
    )
    parser.add_argument(
        "--shards", type=int, default=64, help="shards of the reference (default: %(default)s)"
    )
    args = parser.parse_args()
    # datasets reads the environment when it is imported.
    os.environ |= {"SLM_PROGRESS": "off", "HF_HUB_OFFLINE": "1"}
    import datasets

    from benchmarks.references import describe_machine

    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts, encoding = write_repeated(args.text, args.megabytes, folder), tiktoken_gpt2(folder)
        if counts["documents"] < args.shards:
            raise UserError(
                f"--shards: must be at most the number of documents, {counts['documents']}, got {args.shards}"
            )
        implementations: dict[str, Callable[[], float]] = {
            "this project": lambda: measure_slm(folder),
            "`datasets.map`, memory map": lambda: measure_datasets(
                folder, encoding, args.processes, args.shards
            ),
            "upper limit: tiktoken alone": lambda: measure_tiktoken(folder, encoding),
        }
        rounds = []
        for _ in range(args.rounds):
            rounds.append([measure() for measure in implementations.values()])
            if (folder / "tokens/train.bin").read_bytes() != (folder / "reference.bin").read_bytes():
                raise UserError("the implementations wrote different ids")

    size, medians = counts["bytes"] / 1e6, [median(times) for times in zip(*rounds, strict=True)]
    reference_seconds = medians[1]
    print("| | seconds | MB/s | × `datasets` |\n|---|---:|---:|---:|")
    for name, seconds in zip(implementations, medians, strict=True):
        print(f"| {name} | {seconds:.2f} | {size / seconds:.1f} | {reference_seconds / seconds:.1f} |")
    corpus = f"{size:.1f} MB of text in {counts['documents']:,} documents, medians of {len(rounds)} rounds"
    machine = describe_machine("tiktoken", "pyarrow", "numpy", "datasets")
    print(f"\n{corpus}; `datasets` with {args.processes} processes, {args.shards} shards. {machine}.")


if __name__ == "__main__":
    run_command(main)
