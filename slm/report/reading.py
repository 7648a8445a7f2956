"""Files of results, read back and checked: tables (CSV), lines of JSON, and JSON."""

import csv
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slm.core.config import Section
from slm.core.errors import UserError
from slm.core.files import read_json

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Row(BaseModel):
    """A line of a table; what else there is in it is not needed here."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Result(Section):
    """A file of JSON; what else there is in it is not needed here."""

    model_config = ConfigDict(extra="ignore")

    made_with: list[str] = Field(default_factory=list)  # versions of libraries

    @model_validator(mode="before")
    @classmethod
    def _with_what_is_no_column(cls, values: Any) -> Any:
        """`write_metrics` keeps in a list what is no column of DVC's tables."""
        match values:
            case {"also": [{**others}]}:
                return values | others
        return values


R = TypeVar("R", bound=Row)
J = TypeVar("J", bound=Result)


def read_result(path: Path, kind: type[J]) -> J:
    """A JSON file. Raises UserError if it is missing or says something else."""
    return kind.check(read_json(path), path)


def read_table(path: Path, kind: type[R], may_be_empty: bool = False) -> list[R]:
    """The rows of a CSV file, at least one unless it may be empty.

    Raises UserError if the file or a column is not there, or a value is not what it should be.
    """
    with _text(path) as lines:
        reader = csv.DictReader(lines)
        cells = ({name: cell for name, cell in row.items() if cell} for row in reader)
        rows = [_checked(row, kind, f"{path}:{reader.line_num}") for row in cells]
    if not (rows or may_be_empty):
        raise UserError(f"{path}: no rows")
    return rows


def read_lines(path: Path, kind: type[R]) -> list[R]:
    """The objects of a JSONL file. Raises UserError if it is missing, or a line is not what it should be."""
    found = []
    with _text(path) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                value = json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}:{number}: not valid JSON: {error}") from None
            found.append(_checked(value, kind, f"{path}:{number}"))
    return found


@contextmanager
def _text(path: Path) -> Iterator[Iterable[str]]:
    """The lines of a text file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None


def _checked(values: Any, kind: type[R], where: str) -> R:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        column, message = ".".join(map(str, first["loc"])), first["msg"]
        if first["type"] == "missing":
            raise UserError(f"{where}: {column} is missing") from None
        said = message[message.index("should") :] if "should" in message else message
        raise UserError(f"{where}: {f'{column} ' * bool(column)}{said.partition(',')[0]}") from None
