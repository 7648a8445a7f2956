"""The user's own text: .txt, .jsonl and .parquet files, and folders of .txt files."""

import json
import mmap
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from slm.core.config import is_set
from slm.core.errors import UserError
from slm.data.documents import Document, hold_out, read_documents
from slm.data.params import DataParams

SEPARATOR = b"<|endoftext|>"
EXPECTED = ".txt, .jsonl, .parquet, or a folder of .txt files"


def read_files(params: DataParams) -> Iterator[Document]:
    """The documents of `data.files`, as many of each as the params allow.

    Without a validation file, some of the training documents are held out. Raises UserError if a file is
    missing, is of another kind or is not what its name says.
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
        texts = islice(read_texts(validation), params.max_validation_documents)
        yield from (Document("validation", text) for text in texts)


def _is_blank(path: Path) -> bool:
    """Whether a file is there but holds nothing (an editor may have left a newline in it)."""
    return path.is_file() and path.stat().st_size < 16 and not path.read_bytes().strip()


def read_texts(path: Path) -> Iterator[str]:
    """The texts of a file or folder, one at a time. Raises UserError as `read_files` does."""
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
            raise UserError(f"{path}: must be {EXPECTED}")
    except OSError as error:
        raise UserError(f"{error.filename or path}: could not be read: {error.strerror}") from None


def _read_folder(folder: Path) -> Iterator[str]:
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise UserError(f"{folder}: no .txt files in this folder")
    for file in files:
        yield from _read_txt(file)


def _read_txt(path: Path) -> Iterator[str]:
    """The texts between separators, without the newlines around these, or else the whole file as it is."""
    if not path.stat().st_size:  # which cannot be mapped
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = len(BOM_UTF8) if data[: len(BOM_UTF8)] == BOM_UTF8 else 0
        end = data.find(SEPARATOR, start)
        if end < 0:
            yield _decode(data[start:], path, start)
            return
        # A file may begin or end with a separator: no document is meant there.
        if leading := _decode(data[start:end], path, start).strip("\r\n"):
            yield leading
        while end >= 0:
            start = end + len(SEPARATOR)
            end = data.find(SEPARATOR, start)
            text = _decode(data[start : end if end >= 0 else len(data)], path, start).strip("\r\n")
            if text or end >= 0:
                yield text


def read_objects(path: Path, fields: Sequence[str]) -> Iterator[list[str]]:
    """These fields of the object on each line of a .jsonl file; blank lines are nothing."""
    start = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            content = line.removeprefix(BOM_UTF8) if number == 1 else line
            if content.strip():
                text = _decode(content, path, start + len(line) - len(content))
                yield _fields_of(text, fields, f"{path}:{number}")
            start += len(line)


def _fields_of(line: str, fields: Sequence[str], where: str) -> list[str]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON: {error.msg} at character {error.pos}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{where}: not a JSON object")
    return [_text_of(value, field, where) for field in fields]


def _text_of(value: dict[str, Any], field: str, where: str) -> str:
    text = value.get(field)
    if not isinstance(text, str):
        raise UserError(f"{where}: no field `{field}` with a string; its fields: {', '.join(value)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: the text has half a surrogate pair at character {error.start}") from None
    return text


def _decode(data: bytes, path: Path, start: int) -> str:
    """Bytes of a file, from byte `start` on, as text."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {start + error.start}") from None
