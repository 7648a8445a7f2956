"""Memory-mapped files of token ids: one per split, with `<|endoftext|>` after each document.

The ids are little-endian uint16, or uint32 for a large vocabulary. `meta.json` has the type and the counts.
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator

from slm.core.config import StrictModel, validate
from slm.core.errors import UserError
from slm.core.files import read_json, write_json

META = "meta.json"
SPLITS = ("train", "validation")
Count = Annotated[int, Field(ge=0)]
# Ids that are checked at a time.
BLOCK = 1 << 24


class SplitMeta(StrictModel):
    """The counts of a split. `bytes` is the length of its documents in UTF-8."""

    tokens: Count
    documents: Count
    bytes: Count


class TokensMeta(StrictModel):
    """meta.json: the vocabulary, the type of the ids and the counts of both splits."""

    vocab_size: Count
    # The id after each document.
    end_of_text: Count
    dtype: Literal["uint16", "uint32"]
    train: SplitMeta
    validation: SplitMeta

    @field_validator("end_of_text")
    @classmethod
    def _check_end_of_text(cls, end_of_text: int, info: ValidationInfo) -> int:
        vocab_size = info.data.get("vocab_size", end_of_text + 1)
        if end_of_text >= vocab_size:
            raise ValueError(f"must be less than vocab_size = {vocab_size}, got {end_of_text}")
        return end_of_text


def bin_dtype(vocab_size: int) -> np.dtype:
    """Return the smallest little-endian type that holds every id of a vocabulary."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def write_meta(tokens: Path, meta: TokensMeta) -> None:
    """Write meta.json."""
    write_json(tokens / META, meta.model_dump())


def read_meta(tokens: Path) -> TokensMeta:
    """Read meta.json. Raises UserError if it is missing or does not match the schema."""
    return validate(TokensMeta, read_json(tokens / META), str(tokens / META))


def open_bin(tokens: Path, split: str, at_least: int = 1) -> np.ndarray:
    """Map the ids of a split into memory, read-only; shape (N,).

    Raises UserError if the size of the file does not match meta.json, if it has fewer than `at_least` ids, or
    if an id is outside the vocabulary.
    """
    path, meta = tokens / f"{split}.bin", read_meta(tokens)
    dtype = np.dtype(meta.dtype).newbyteorder("<")
    n_tokens = getattr(meta, split).tokens
    n_bytes = n_tokens * dtype.itemsize
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro` makes it")
    if path.stat().st_size != n_bytes:
        raise UserError(f"{path}: expected {n_bytes} bytes (from {META}), got {path.stat().st_size}")
    if n_tokens < at_least:
        hint = "add text or lower model.block_size"
        raise UserError(f"{path}: expected at least {at_least} tokens, got {n_tokens}: {hint}")
    ids = np.memmap(path, dtype=dtype, mode="r")
    _check_ids(ids, meta.vocab_size, path)
    return ids


def _check_ids(ids: np.ndarray, vocab_size: int, path: Path) -> None:
    """Raise UserError if an id is outside the vocabulary."""
    for start in range(0, len(ids), BLOCK):
        block = ids[start : start + BLOCK]
        if block.max() >= vocab_size:
            i = int(np.argmax(block >= vocab_size))
            raise UserError(f"{path}: token {start + i} must be less than {vocab_size}, got {block[i]}")
