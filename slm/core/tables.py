"""Result files: CSV, JSON and JSON Lines, each written and read with one schema.

The schemas are in slm/results/, one module per stage that writes such files.
"""

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from slm.core.config import StrictModel, format_errors, validate
from slm.core.errors import UserError
from slm.core.files import read_json, write_json, write_text

Count = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
# Low and high end of a 95 % confidence interval.
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]
M = TypeVar("M", bound=StrictModel)


class Details(StrictModel):
    """Facts about a stage's results that are no metrics: `dvc metrics show` leaves them out."""

    # Installed versions of the libraries that can change the results, by name.
    versions: dict[str, str]


def write_result(path: Path, result: StrictModel, under: str = "", indent: int | None = 2) -> None:
    """Write one object as JSON, without the fields that are None.

    With `under` it is the value of that key, which gives its metrics columns of their own in DVC's tables.
    """
    values = result.model_dump(exclude_none=True)
    write_json(path, {under: values} if under else values, indent)


def read_result(path: Path, schema: type[M], under: str = "") -> M:
    """Read one object from JSON. Raises UserError if the file is missing or does not match the schema."""
    values = read_json(path)
    if under:
        values = values.get(under) if isinstance(values, dict) else None
        return validate(schema, values, str(path), under)
    return validate(schema, values, str(path))


def write_rows(path: Path, schema: type[M], rows: Iterable[M]) -> None:
    """Write CSV with a header, numbers to six significant digits; None becomes an empty cell."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(schema.model_fields)
    for row in rows:
        writer.writerow(f"{x:.6g}" if isinstance(x, float) else x for x in row.model_dump().values())
    write_text(path, text.getvalue())


def read_rows(path: Path, schema: type[M], may_be_empty: bool = False) -> list[M]:
    """Read the rows of a CSV file, at least one unless it may be empty.

    Raises UserError with the line if the file or a column is missing or a cell does not match the schema.
    """
    with _open(path) as lines:
        reader = csv.DictReader(lines)
        rows = [_row(schema, cells, f"{path}:{reader.line_num}") for cells in reader]
    if not (rows or may_be_empty):
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
    with _open(path) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                value = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}:{number}: not valid JSON: {error}") from None
            items.append(validate(schema, value, f"{path}:{number}"))
    return items


@contextmanager
def _open(path: Path) -> Iterator[Iterable[str]]:
    """Give the lines of a text file. Raises UserError if it is missing or not UTF-8."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None


def _row(schema: type[M], cells: dict[str, str], where: str) -> M:
    """Parse the cells of a CSV row; an empty one counts as missing."""
    try:
        return schema.model_validate_strings({name: cell for name, cell in cells.items() if cell})
    except ValidationError as error:
        key, problem = next(iter(format_errors(error.errors(), schema).items()))
        raise UserError(f"{where}: {key}: {problem}") from None
