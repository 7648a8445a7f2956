"""Write result files atomically: CSV, JSON and JSON Lines, each with one schema.

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

from pydantic import Field

from slm.core.config import StrictModel
from slm.core.errors import UserError

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
# Low and high end of a 95 % confidence interval.
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
M = TypeVar("M", bound=StrictModel)


class Details(StrictModel):
    """Facts about the results of a stage that are not metrics; `dvc metrics show` omits them."""

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


def write_rows(path: Path, schema: type[M], rows: Iterable[M]) -> None:
    """Write CSV with a header, numbers to six significant digits; None becomes an empty cell."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(schema.model_fields)
    for row in rows:
        writer.writerow(f"{x:.6g}" if isinstance(x, float) else x for x in row.model_dump().values())
    write_text(path, text.getvalue())


def write_lines(path: Path, items: Iterable[StrictModel]) -> None:
    """Write one object per line as JSON, in ASCII: some readers split lines at other characters than \\n."""
    write_text(path, "".join(json.dumps(item.model_dump()) + "\n" for item in items))
