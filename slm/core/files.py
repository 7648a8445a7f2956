"""Read and write result files: CSV, JSON and JSON Lines, each with one schema. Every write is atomic.

The schemas are in slm/results/, one module per stage that writes such files.
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from slm.core.config import StrictModel, format_errors, validate
from slm.core.errors import UserError

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# Low and high end of a 95 % confidence interval.
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
M = TypeVar("M", bound=StrictModel)


class Details(StrictModel):
    """Facts about a stage's results that are no metrics: `dvc metrics show` leaves them out."""

    # Installed versions of the libraries that can change the results, by name.
    versions: dict[str, str]


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` at the end, or delete it after an error.

    Raises UserError if the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with convert_write_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
    finally:
        # After the rename, the temporary file is gone; after an error, perhaps even its folder.
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def convert_write_errors(path: Path) -> Iterator[None]:
    """Re-raise an OSError as a UserError that names the path."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise UserError(f"{path}: could not be written: {reason}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, with the same bytes on every operating system."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def append_line(path: Path, value: Any) -> None:
    """Append a line of JSON to a file; concurrent processes do not interleave their lines."""
    with convert_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # The buffer is written with one system call, when the file is closed.
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write JSON that people can read and git can compare: indented, with a newline at the end."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of an earlier stage. Raises UserError if it is missing or not valid JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON: {error}") from None


def write_result(path: Path, result: StrictModel, key: str = "", indent: int | None = 2) -> None:
    """Write one object as JSON, without the fields that are None.

    With `key`, the file is a mapping from it to the object: DVC's tables then show the metrics in columns of
    their own.
    """
    values = result.model_dump(exclude_none=True)
    write_json(path, {key: values} if key else values, indent)


def read_result(path: Path, schema: type[M], key: str = "") -> M:
    """Read one object from JSON. Raises UserError if the file is missing or does not match the schema."""
    values = read_json(path)
    if key:
        values = values.get(key) if isinstance(values, dict) else None
    return validate(schema, values, str(path), key)


def write_rows(path: Path, schema: type[M], rows: Iterable[M]) -> None:
    """Write CSV with a header, numbers to six significant digits; None becomes an empty cell."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(schema.model_fields)
    for row in rows:
        writer.writerow(f"{x:.6g}" if isinstance(x, float) else x for x in row.model_dump().values())
    write_text(path, text.getvalue())


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


def write_lines(path: Path, items: Iterable[StrictModel]) -> None:
    """Write one object per line as JSON, in ASCII: some readers split lines at other characters than \\n."""
    write_text(path, "".join(json.dumps(item.model_dump()) + "\n" for item in items))


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
