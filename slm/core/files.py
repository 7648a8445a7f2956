"""Files that are either whole or not there: written under a temporary name, then moved into place."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from slm.core.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; move it there at the end, or drop it on an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
    finally:
        with suppress(OSError):  # there is none to drop, or even no folder for it
            temporary.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system says against writing is a UserError that names this path."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise UserError(f"{path}: could not be written: {reason}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all, with the same bytes on every system."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def append_line(path: Path, value: Any) -> None:
    """Add a line of JSON to a file; lines of several processes do not mix."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")  # at once, when it is closed


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write JSON that people can read and git can compare: indented, with a newline at the end."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file that an earlier stage wrote."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None
