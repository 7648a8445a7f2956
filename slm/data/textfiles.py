"""Read the user's own text: .txt, .jsonl and .parquet files, and folders of .txt files."""

import json
import mmap
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from slm.core.config import format_value, is_set
from slm.core.errors import UserError
from slm.data.documents import Document, hold_out, read_documents
from slm.data.params import DataParams

SEPARATOR = b"<|endoftext|>"
FORMATS = ".txt, .jsonl, .parquet, or a folder of .txt files"


def read_files(params: DataParams) -> Iterator[Document]:
    """Yield the documents of `data.files`, up to the limits of the params.

    Without a validation file, a fraction of the training documents is held out. Raises UserError if a file is
    missing, has an unknown extension or is not valid.
    """
    train, validation = Path(params.files.train), Path(params.files.validation)
    for path, key in ((train, "data.files.train"), (validation, "data.files.validation")):
        if is_set(str(path), key) and _is_blank(path):
            raise UserError(f"{path}: empty; {key} must name a file with text")
    texts = islice(read_texts(train), params.max_documents)
    if not is_set(params.files.validation, "data.files.validation"):
        yield from hold_out(texts, params.validation_fraction, params.seed)
    else:
        yield from (Document("train", text) for text in texts)
        validation_texts = islice(read_texts(validation), params.max_validation_documents)
        yield from (Document("validation", text) for text in validation_texts)


def _is_blank(path: Path) -> bool:
    """Return whether a file exists but has no text (an editor may have left a newline in it)."""
    return path.is_file() and path.stat().st_size < 16 and not path.read_bytes().strip()


def read_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a file or folder. Raises UserError as `read_files` does."""
    try:
        if path.is_dir():
            yield from _read_folder(path)
        elif path.suffix == ".txt":
            yield from _read_txt(path)
        elif path.suffix == ".jsonl":
            yield from (text for (text,) in read_objects(path, ("text",)))
        elif path.suffix == ".parquet":
            yield from chain.from_iterable(read_documents(path))
        else:
            raise UserError(f"{path}: must be {FORMATS}")
    except OSError as error:
        raise UserError(f"{error.filename or path}: could not be read: {error.strerror}") from None


def _read_folder(folder: Path) -> Iterator[str]:
    """Yield the texts of the .txt files in a folder, by file name."""
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise UserError(f"{folder}: no .txt files in this folder")
    for file in files:
        yield from _read_txt(file)


def _read_txt(path: Path) -> Iterator[str]:
    """Yield the texts between separators, without newlines at their ends, or else the whole file."""
    # An empty file cannot be mapped.
    if not path.stat().st_size:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = len(BOM_UTF8) if data[: len(BOM_UTF8)] == BOM_UTF8 else 0
        end = data.find(SEPARATOR, start)
        if end < 0:
            yield _decode(data[start:], path, start)
            return
        # A separator at the start or end of the file does not delimit an empty document.
        if leading := _decode(data[start:end], path, start).strip("\r\n"):
            yield leading
        while end >= 0:
            start = end + len(SEPARATOR)
            end = data.find(SEPARATOR, start)
            text = _decode(data[start : end if end >= 0 else len(data)], path, start).strip("\r\n")
            if text or end >= 0:
                yield text


def read_objects(path: Path, fields: Sequence[str]) -> Iterator[list[str]]:
    """Yield these fields of the object on each line of a .jsonl file; blank lines are skipped."""
    start = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            content = line.removeprefix(BOM_UTF8) if number == 1 else line
            if content.strip():
                text = _decode(content, path, start + len(line) - len(content))
                yield _parse_fields(text, fields, f"{path}:{number}")
            start += len(line)


def _parse_fields(line: str, fields: Sequence[str], where: str) -> list[str]:
    """Parse a line of JSON. Raises UserError unless it is an object with these fields of text."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error.msg} at character {error.pos}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{where}: must be a JSON object, got {format_value(value)}")
    return [_get_text(value, field, where) for field in fields]


def _get_text(value: dict[str, Any], field: str, where: str) -> str:
    """Return a field. Raises UserError unless it is a string of valid Unicode."""
    if field not in value:
        raise UserError(f"{where}: must have the field {field!r}, got {', '.join(value) or 'no fields'}")
    text = value[field]
    if not isinstance(text, str):
        raise UserError(f"{where}: {field}: must be a string, got {format_value(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: {field}: must be valid Unicode, got a lone surrogate at character {error.start}"
        ) from None
    return text


def _decode(data: bytes, path: Path, start: int) -> str:
    """Decode bytes of a file from position `start`. Raises UserError if they are not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {start + error.start}") from None
