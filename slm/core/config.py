"""One section of params.yaml, typed and checked before a stage does anything."""

import reprlib
from pathlib import Path
from typing import Any, ClassVar, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from slm.core.errors import UserError

PARAMS_FILE = Path("params.yaml")
# DVC needs every dependency to be a file. An empty one that git tracks stands for "not set".
NOT_SET = "data/none"
# Names of datasets and fine-tuning runs. They become parts of paths that DVC deletes before a stage runs.
ITEM_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"
# Old names of sections and keys in params.yaml, with their new names.
RENAMED = {
    "evaluate.corpora": "evaluate.datasets",
    "finetune": "sft",
    "quality": "eval_samples",
}
SHORT = reprlib.Repr()  # a wrong value may be anything, of any size
SHORT.maxlevel = 1
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 80


class StrictModel(BaseModel):
    """A schema with strict types (no string for a number), without unknown keys, NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Section(StrictModel):
    """A section of params.yaml. Subclasses name it, list its keys and lie beside the code that reads them."""

    section: ClassVar[str]

    @classmethod
    def load(cls, path: Path = PARAMS_FILE) -> Self:
        """Read and check this section of the file. Raises UserError with a line for each wrong key."""
        return cls.check(read_yaml(path).get(cls.section, {}), path)

    @classmethod
    def check(cls, values: Any, path: Path = PARAMS_FILE) -> Self:
        """Turn plain values into the section. Raises UserError with a line for each wrong key."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines: dict[str, str] = {}  # by key: of a union, each member complains
            for key, complaint in (_describe(cls, e) for e in error.errors()):
                lines[key] = f"{lines[key]} or {complaint[-1]}" if key in lines else " ".join(complaint)
            raise UserError("\n".join(f"{path}: {key}: {line}" for key, line in lines.items())) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read params.yaml as DVC does: with the same YAML 1.2 reader, to which 1e-3 is a number."""
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the folder that holds it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not valid YAML: {error.problem}".splitlines()[0]) from None
    except RecursionError:
        raise UserError(f"{path}: not valid YAML: nested too deeply") from None
    except (YAMLError, ValueError) as error:  # a control character, a number of 5000 digits
        raise UserError(f"{path}: not valid YAML: {error}".splitlines()[0].partition(";")[0]) from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be a mapping of sections, not {SHORT.repr(values)}")
    return values


def _describe(section: type[Section], error: Any) -> tuple[str, list[str]]:
    """The key of one of pydantic's errors, and in words what is wrong with its value and what is allowed."""
    key = ".".join([section.section, *(str(part) for part in error["loc"] if not _is_tag(part))])
    message = error["msg"]
    if error["type"] == "missing":
        return key, ["missing"]
    if error["type"] in {"extra_forbidden", "invalid_key"}:
        if key in RENAMED:
            return key, [f"was renamed to {RENAMED[key]}"]
        model = _model_at(section, error["loc"][:-1])
        return key, [f"unknown key; allowed: {', '.join(model.model_fields)}"]
    if error["type"] == "value_error":  # our own checks name the value
        return key, [message.removeprefix("Value error, ")]
    allowed = message[message.index("should") :] if "should" in message else message
    return key, [SHORT.repr(error["input"]), allowed]


def _is_tag(part: int | str) -> bool:
    """Whether pydantic added this part of a location to name a member of a union, not a key."""
    return isinstance(part, str) and ("[" in part or part in {"bool", "int", "float", "str", "none"})


def _model_at(section: type[Section], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """The (nested) section that a location lies in."""
    model: type[BaseModel] = section
    parts = iter(loc)
    for part in parts:
        if field := model.model_fields.get(str(part)):
            annotation = field.annotation
            if get_origin(annotation) is dict:
                next(parts, None)  # of sections by name
        else:  # this section itself is one of sections by name
            annotation = model.__annotations__["__pydantic_extra__"]
        types = (annotation, *get_args(annotation))  # X | None and dict[str, X] have the section inside
        model = next(t for t in types if isinstance(t, type) and issubclass(t, BaseModel))
    return model


def is_set(path: str, key: str) -> bool:
    """Return whether a param names a file or folder, and not NOT_SET.

    Raises UserError if NOT_SET is not empty: git would overwrite what the user put there.
    """
    if Path(path) != Path(NOT_SET):
        return True
    if Path(NOT_SET).is_dir() or (Path(NOT_SET).is_file() and Path(NOT_SET).stat().st_size):
        raise UserError(
            f"{NOT_SET}: must be an empty file, it means that no file is set; move your data to data/user/ "
            f"and set {key} to it"
        )
    return False
