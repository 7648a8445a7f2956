"""Flat files of token ids, which training maps into memory: one a split, `<|endoftext|>` after each text.

The ids are little-endian uint16, or uint32 where the vocabulary needs it; `meta.json` says which.
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
BLOCK = 1 << 24  # ids looked at at a time


class SplitMeta(StrictModel):
    """How much a split holds; `bytes` are those of its texts in UTF-8."""

    tokens: Count
    documents: Count
    bytes: Count


class TokensMeta(StrictModel):
    """meta.json: the vocabulary and the contents of the bins."""

    vocab_size: Count
    # The id after each document.
    end_of_text: Count
    dtype: Literal["uint16", "uint32"]
    train: SplitMeta
    validation: SplitMeta

    @field_validator("end_of_text")
    @classmethod
    def _is_a_token(cls, end_of_text: int, info: ValidationInfo) -> int:
        vocab_size = info.data.get("vocab_size", end_of_text + 1)
        if end_of_text >= vocab_size:
            raise ValueError(f"must be less than vocab_size = {vocab_size}, got {end_of_text}")
        return end_of_text


def bin_dtype(vocab_size: int) -> np.dtype:
    """The smallest little-endian type that holds every id."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def write_meta(tokens: Path, meta: TokensMeta) -> None:
    """Write meta.json."""
    write_json(tokens / META, meta.model_dump())


def read_meta(tokens: Path) -> TokensMeta:
    """Read meta.json. Raises UserError if it is missing or says something else."""
    return validate(TokensMeta, read_json(tokens / META), str(tokens / META))


def open_bin(tokens: Path, split: str, at_least: int = 1) -> np.ndarray:
    """Map the ids of a split into memory, to be read only.

    Raises UserError if the file is not whole, has fewer than `at_least` ids, or one outside the vocabulary.
    """
    path, meta = tokens / f"{split}.bin", read_meta(tokens)
    dtype = np.dtype(meta.dtype).newbyteorder("<")
    expected = getattr(meta, split).tokens * dtype.itemsize
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro` makes it")
    if path.stat().st_size != expected:
        raise UserError(f"{path}: {path.stat().st_size} bytes found, {expected} expected by {META}")
    n_tokens = expected // dtype.itemsize
    if n_tokens < at_least:
        short = f"{n_tokens} tokens found, at least {at_least} are needed"
        raise UserError(f"{path}: {short}: bring more text, or lower model.block_size")
    ids = np.memmap(path, dtype=dtype, mode="r")
    _check_ids(ids, meta.vocab_size, path)
    return ids


def _check_ids(ids: np.ndarray, vocab_size: int, path: Path) -> None:
    for start in range(0, len(ids), BLOCK):
        block = ids[start : start + BLOCK]
        if block.max() >= vocab_size:
            at = int(np.argmax(block >= vocab_size))
            raise UserError(
                f"{path}: token {start + at} is {block[at]}, outside of the vocabulary of {vocab_size}"
            )
