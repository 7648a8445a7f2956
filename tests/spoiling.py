"""Ways to spoil a project that ran. Each gives a function that does it in the current folder."""

import ctypes
import io
import json
import pickle
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from slm.export.card import find_facts
from slm.export.huggingface import write_folder
from slm.model.gpt import load_model
from slm.tokenizer.tokenizer import load
from tests.project import TINY, change_params
from tests.tiny import SFT, file_size_limit

Spoil = Callable[[], None]
Within = Callable[[], AbstractContextManager[None]]

TRAIN_BIN, VALIDATION_BIN = "data/tokens/train.bin", "data/tokens/validation.bin"
META, CORPUS = "data/tokens/meta.json", "data/corpus/train.parquet"
WEIGHTS, CONFIG, TOKENIZER = "models/model.safetensors", "models/config.json", "models/tokenizer.json"
VALIDATION_CURVE = "reports/val.csv"
START, START_CONFIG = "start", "start/config.json"  # that training is to start from
WINDOW = TINY["model"]["block_size"]
TRAP = "it-ran"  # the folder that a file makes which executes when it is loaded


def nothing() -> None:
    """It is not the files that are wrong."""


def both(first: Spoil, second: Spoil) -> Spoil:
    return lambda: (first(), second())[0]


# Files


def write(name: str, content: str | bytes) -> Spoil:
    def spoil() -> None:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be read-only
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def change(name: str, changed: Callable[[bytes], bytes]) -> Spoil:
    return lambda: write(name, changed(Path(name).read_bytes()))()


def cut(name: str) -> Spoil:
    """The second half is lost."""
    return change(name, lambda content: content[: len(content) // 2])


def missing(name: str) -> Spoil:
    return lambda: Path(name).unlink()


def folder(name: str) -> Spoil:
    """A folder where a file should be."""
    return lambda: (Path(name).unlink(missing_ok=True), Path(name).mkdir())[0]


def locked(name: str) -> Spoil:
    """A folder that cannot be written to, or a file that cannot be read."""
    return lambda: Path(name).chmod(0o555 if Path(name).is_dir() else 0)


def change_json(name: str, **changes: Any) -> Spoil:
    return lambda: write(name, json.dumps({**json.loads(Path(name).read_text()), **changes}))()


def params_of_model(**changes: Any) -> Spoil:
    """The model is said to have other params than it was trained with."""

    def changed(content: bytes) -> bytes:
        config = json.loads(content)
        return json.dumps({**config, "model": {**config["model"], **changes}}).encode()

    return change(CONFIG, changed)


def without(name: str, key: str) -> Spoil:
    """A JSON file that lacks a key."""
    return change(
        name, lambda content: json.dumps({k: v for k, v in json.loads(content).items() if k != key}).encode()
    )


# What the files hold


def params(**changes: dict[str, Any]) -> Spoil:
    return lambda: change_params(Path(), changes)


def further_text(**item: Any) -> Spoil:
    """A text in `evaluate.datasets`."""
    return params(evaluate={"datasets": {"tales": {"file": "tales.txt", "metric": "bits_per_byte", **item}}})


def tuned(**item: Any) -> Spoil:
    """A run in `sft`."""
    return params(sft={"a": {**SFT, **item}})


def pairs(content: str) -> Spoil:
    """A file of the user's to tune a model on."""
    return both(write("pairs.jsonl", content), tuned(file="pairs.jsonl", tasks=None))


def params_text(old: str, new: str) -> Spoil:
    """A piece of params.yaml replaced."""

    def replaced(content: bytes) -> bytes:
        assert old in content.decode()
        return content.decode().replace(old, new, 1).encode()

    return change("params.yaml", replaced)


def text(name: str, content: str | bytes | None, **data: Any) -> Spoil:
    """A file of the user's as `data.files.train`, and no validation file."""

    def spoil() -> None:
        if content is not None:
            write(name, content)()
        files = {"train": name, "validation": "data/none"}
        change_params(Path(), {"data": {"source": "files", "files": files, **data}})

    return spoil


def parquet(columns: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def last_ids(count: int, value: int) -> Callable[[bytes], bytes]:
    """The last ids of a bin are set to this value."""
    return lambda content: content[: -2 * count] + np.full(count, value, "<u2").tobytes()


def as_32_bits(content: bytes) -> bytes:
    return np.frombuffer(content, "<u2").astype("<u4").tobytes()


def training_tokens(count: int) -> Spoil:
    """A training split of so many tokens."""

    def spoil() -> None:
        meta = json.loads(Path(META).read_text())
        write(META, json.dumps({**meta, "train": {**meta["train"], "tokens": count}}))()
        change(TRAIN_BIN, lambda content: content[: 2 * count])()

    return spoil


def weights(changed: Callable[[dict[str, torch.Tensor]], Any]) -> Spoil:
    def spoil() -> None:
        tensors = load_file(WEIGHTS)
        changed(tensors)
        Path(WEIGHTS).unlink()
        save_file(tensors, WEIGHTS)

    return spoil


def halve(tensors: dict[str, torch.Tensor]) -> None:
    """Make them of 16 bits."""
    tensors.update({name: tensor.half() for name, tensor in tensors.items()})


def filled(value: float) -> Spoil:
    """A weight of the model is this number."""
    return weights(lambda tensors: tensors["head.weight"].fill_(value))


def pickled(name: str) -> Spoil:
    """A pickle that runs code when it is loaded."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.mkdir, (Path(TRAP),)

    return write(name, pickle.dumps(Trap()))


def started(further: Spoil) -> Spoil:
    """Training is to start from an export of the project's own model, to which something more happens."""

    def spoil() -> None:
        models = Path("models")
        write_folder(load_model(models), load(Path(TOKENIZER)), find_facts(models), Path(START))
        change_params(Path(), {"train": {"init_from": START}})
        further()

    return spoil


def another_token(tokenizer: bytes) -> bytes:
    """One token of a tokenizer.json is another."""
    assert b'"!": 1,' in tokenizer
    return tokenizer.replace(b'"!": 1,', b'"!!!": 1,')


def billion_for_the_seed() -> Spoil:
    """A seed that stands, by YAML's aliases, for 10 ** 9 values: the "billion laughs"."""
    seed = "&a0 [1]"
    for n in range(1, 10):
        seed = f"&a{n} [{seed}{f', *a{n - 1}' * 9}]"
    return params_text("seed: 42", f"seed: {seed}")


# What a stage runs in


def full_disk(n_bytes: int) -> Within:
    """A disk with so much space left for each file."""
    return lambda: file_size_limit(n_bytes)


@contextmanager
def little_memory() -> Iterator[None]:
    """No more than 100 MB beyond what the process has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 100_000_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def without_rights() -> Iterator[None]:
    """As the owner of the files, without root's right to read and write what their modes forbid.

    Linux: this thread gives up the capabilities CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, capabilities(7).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the third version of this interface; this thread
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: of 0 to 31, then of 32 to 63
    assert libc.capget(header, held) == 0
    fewer = (ctypes.c_uint32 * 6)(*held)
    fewer[0] &= ~(1 << 1 | 1 << 2)
    assert libc.capset(header, fewer) == 0
    try:
        yield
    finally:
        assert libc.capset(header, held) == 0
