"""Read result files, each with the schema that it was written with (slm/results/)."""

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from slm.core.config import StrictModel, format_errors, validate
from slm.core.errors import UserError
from slm.core.files import read_json

M = TypeVar("M", bound=StrictModel)


def read_result(path: Path, schema: type[M], key: str = "") -> M:
    """Read one object from JSON. Raises UserError if the file is missing or does not match the schema."""
    values = read_json(path)
    if key:
        values = values.get(key) if isinstance(values, dict) else None
    return validate(schema, values, str(path), key)


def read_rows(path: Path, schema: type[M], allow_empty: bool = False) -> list[M]:
    """Read the rows of a CSV file.

    Raises UserError if the file or a column is missing, if a cell does not match the schema, or if there are
    no rows, unless `allow_empty`.
    """
    with _open_text(path) as lines:
        reader = csv.DictReader(lines)
        rows = [_parse_row(schema, cells, f"{path}:{reader.line_num}") for cells in reader]
    if not (rows or allow_empty):
        raise UserError(f"{path}: has no rows; `dvc repro` writes it again")
    return rows


def read_lines(path: Path, schema: type[M]) -> list[M]:
    """Read the objects of a JSON Lines file.

    Raises UserError if the file is missing, or a line is not valid JSON or does not match the schema.
    """
    items = []
    with _open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                value = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}:{number}: not valid JSON: {error}") from None
            items.append(validate(schema, value, f"{path}:{number}"))
    return items


@contextmanager
def _open_text(path: Path) -> Iterator[Iterable[str]]:
    """Yield the lines of a text file. Raises UserError if it is missing or not UTF-8."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None


def _parse_row(schema: type[M], cells: dict[str, str], where: str) -> M:
    """Parse the cells of a CSV row; an empty one counts as missing."""
    try:
        return schema.model_validate_strings({name: cell for name, cell in cells.items() if cell})
    except ValidationError as error:
        key, problem = next(iter(format_errors(error.errors(), schema).items()))
        raise UserError(f"{where}: {key}: {problem}") from None
