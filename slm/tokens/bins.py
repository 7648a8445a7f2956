"""Flat files of token ids, which training maps into memory: one a split, `<|endoftext|>` after each text.

The ids are little-endian uint16, or uint32 where the vocabulary needs it; `meta.json` says which.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from slm.files import read_json, write_json
from slm.params import UserError

META = "meta.json"
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class SplitMeta:
    """How much a split holds; `bytes` are those of its texts in UTF-8."""

    tokens: int
    documents: int
    bytes: int


@dataclass(frozen=True)
class TokensMeta:
    """What meta.json says of the bins."""

    vocab_size: int
    end_of_text: int  # the id after each text
    dtype: str
    train: SplitMeta
    validation: SplitMeta


def bin_dtype(vocab_size: int) -> np.dtype:
    """The smallest little-endian type that holds every id."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def write_meta(tokens: Path, meta: TokensMeta) -> None:
    """Write meta.json."""
    write_json(tokens / META, asdict(meta))


def read_meta(tokens: Path) -> TokensMeta:
    """Read meta.json."""
    values = read_json(tokens / META)
    return TokensMeta(
        **{key: SplitMeta(**value) if key in SPLITS else value for key, value in values.items()}
    )


def open_bin(tokens: Path, split: str) -> np.ndarray:
    """Map the ids of a split into memory, to be read only. Raises UserError if the file is not whole."""
    path, meta = tokens / f"{split}.bin", read_meta(tokens)
    dtype = np.dtype(meta.dtype).newbyteorder("<")
    expected = getattr(meta, split).tokens * dtype.itemsize
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro` makes it")
    if path.stat().st_size != expected:
        raise UserError(f"{path}: {path.stat().st_size} bytes found, {expected} expected by {META}")
    return np.memmap(path, dtype=dtype, mode="r")
