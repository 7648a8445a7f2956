"""Fault injection: each function returns one that makes a file of the current project invalid."""

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

Fault = Callable[[], None]
Context = Callable[[], AbstractContextManager[None]]

TRAIN_BIN, VALIDATION_BIN = "data/tokens/train.bin", "data/tokens/validation.bin"
META, CORPUS = "data/tokens/meta.json", "data/corpus/train.parquet"
WEIGHTS, CONFIG, TOKENIZER = "models/model.safetensors", "models/config.json", "models/tokenizer.json"
VALIDATION_CURVE = "reports/val.csv"
# Pretrained weights in Hugging Face's layout, for train.init_from.
START, START_CONFIG = "start", "start/config.json"
WINDOW = TINY["model"]["block_size"]
# The folder that a malicious file creates if loading it runs code.
TRAP = "it-ran"


def no_fault() -> None:
    """Change no file, for a case whose fault is in the environment."""


def both(first: Fault, second: Fault) -> Fault:
    """Inject two faults in turn."""
    return lambda: (first(), second())[0]


# Files.


def write(name: str, content: str | bytes) -> Fault:
    """Write a file."""

    def inject() -> None:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # The old file may be read-only.
        path.unlink(missing_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return inject


def edit(name: str, changed: Callable[[bytes], bytes]) -> Fault:
    """Replace the content of a file by a function of it."""
    return lambda: write(name, changed(Path(name).read_bytes()))()


def truncate(name: str) -> Fault:
    """Cut off the second half of a file."""
    return edit(name, lambda content: content[: len(content) // 2])


def delete(name: str) -> Fault:
    """Delete a file."""
    return lambda: Path(name).unlink()


def replace_by_folder(name: str) -> Fault:
    """Create a folder in place of a file."""
    return lambda: (Path(name).unlink(missing_ok=True), Path(name).mkdir())[0]


def lock(name: str) -> Fault:
    """Make a folder read-only or a file unreadable."""
    return lambda: Path(name).chmod(0o555 if Path(name).is_dir() else 0)


def edit_json(name: str, **changes: Any) -> Fault:
    """Change keys of a JSON file."""
    return lambda: write(name, json.dumps({**json.loads(Path(name).read_text()), **changes}))()


def edit_config(**changes: Any) -> Fault:
    """Change the params of the model in config.json."""

    def changed(content: bytes) -> bytes:
        config = json.loads(content)
        return json.dumps({**config, "model": {**config["model"], **changes}}).encode()

    return edit(CONFIG, changed)


def drop_key(name: str, key: str) -> Fault:
    """Delete a key of a JSON file."""
    return edit(
        name, lambda content: json.dumps({k: v for k, v in json.loads(content).items() if k != key}).encode()
    )


# Contents of files.


def edit_params(**changes: dict[str, Any]) -> Fault:
    """Change keys of params.yaml by section."""
    return lambda: change_params(Path(), changes)


def edit_dataset(**item: Any) -> Fault:
    """Add a dataset to `evaluate.datasets`."""
    dataset = {"file": "tales.txt", "metric": "bits_per_byte", **item}
    return edit_params(evaluate={"datasets": {"tales": dataset}})


def edit_sft(**item: Any) -> Fault:
    """Add a run to `sft`."""
    return edit_params(sft={"a": {**SFT, **item}})


def use_sft_file(content: str) -> Fault:
    """Add a run to `sft` with a file of the user."""
    return both(write("pairs.jsonl", content), edit_sft(file="pairs.jsonl", tasks=None))


def replace_text(old: str, new: str) -> Fault:
    """Replace a string in params.yaml."""

    def replaced(content: bytes) -> bytes:
        assert old in content.decode()
        return content.decode().replace(old, new, 1).encode()

    return edit("params.yaml", replaced)


def use_text(name: str, content: str | bytes | None, **data: Any) -> Fault:
    """Set a file of the user as `data.files.train`, without a validation file."""

    def inject() -> None:
        if content is not None:
            write(name, content)()
        files = {"train": name, "validation": "data/none"}
        change_params(Path(), {"data": {"source": "files", "files": files, **data}})

    return inject


def parquet(columns: dict[str, Any]) -> bytes:
    """Return a Parquet file with these columns."""
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def set_last_ids(count: int, value: int) -> Callable[[bytes], bytes]:
    """Return a function that sets the last ids of a bin to a value."""
    return lambda content: content[: -2 * count] + np.full(count, value, "<u2").tobytes()


def to_uint32(content: bytes) -> bytes:
    """Convert the ids of a bin from 16 to 32 bits."""
    return np.frombuffer(content, "<u2").astype("<u4").tobytes()


def shorten_training_split(count: int) -> Fault:
    """Shorten the training split to `count` tokens."""

    def inject() -> None:
        meta = json.loads(Path(META).read_text())
        write(META, json.dumps({**meta, "train": {**meta["train"], "tokens": count}}))()
        edit(TRAIN_BIN, lambda content: content[: 2 * count])()

    return inject


def edit_weights(changed: Callable[[dict[str, torch.Tensor]], Any]) -> Fault:
    """Call a function that modifies the tensors of the model."""

    def inject() -> None:
        tensors = load_file(WEIGHTS)
        changed(tensors)
        Path(WEIGHTS).unlink()
        save_file(tensors, WEIGHTS)

    return inject


def halve(tensors: dict[str, torch.Tensor]) -> None:
    """Convert the tensors to 16 bits."""
    tensors.update({name: tensor.half() for name, tensor in tensors.items()})


def fill_head(value: float) -> Fault:
    """Fill the output layer with a number."""
    return edit_weights(lambda tensors: tensors["head.weight"].fill_(value))


def replace_by_pickle(name: str) -> Fault:
    """Replace a file by a pickle that runs code when it is loaded."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.mkdir, (Path(TRAP),)

    return write(name, pickle.dumps(Trap()))


def init_from_export(fault: Fault) -> Fault:
    """Set train.init_from to an export of the project's model, then inject a fault."""

    def inject() -> None:
        models = Path("models")
        write_folder(load_model(models), load(Path(TOKENIZER)), find_facts(models), Path(START))
        change_params(Path(), {"train": {"init_from": START}})
        fault()

    return inject


def replace_token(tokenizer: bytes) -> bytes:
    """Replace one token of a tokenizer.json."""
    assert b'"!": 1,' in tokenizer
    return tokenizer.replace(b'"!": 1,', b'"!!!": 1,')


def yaml_bomb() -> Fault:
    """Set a seed that YAML's aliases expand to 10 ** 9 values, the "billion laughs" attack."""
    seed = "&a0 [1]"
    for n in range(1, 10):
        seed = f"&a{n} [{seed}{f', *a{n - 1}' * 9}]"
    return replace_text("seed: 42", f"seed: {seed}")


# Environments of a stage.


def full_disk(n_bytes: int) -> Context:
    """Limit the size of each file, as on a full disk."""
    return lambda: file_size_limit(n_bytes)


@contextmanager
def limit_memory() -> Iterator[None]:
    """Limit the memory of the process to 100 MB more than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 100_000_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def unprivileged() -> Iterator[None]:
    """Drop root's permission to read and write files against their modes.

    On Linux, this thread drops the capabilities CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, capabilities(7).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # Version 3 of the interface, for this thread.
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    # Effective, permitted and inheritable sets of the capabilities 0 to 31, then of 32 to 63.
    current = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, current) == 0
    reduced = (ctypes.c_uint32 * 6)(*current)
    reduced[0] &= ~(1 << 1 | 1 << 2)
    assert libc.capset(header, reduced) == 0
    try:
        yield
    finally:
        assert libc.capset(header, current) == 0
