"""Params and other schemas: strict pydantic models, read from YAML, with errors in plain lines."""

import re
import reprlib
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from slm.core.errors import UserError

PARAMS_FILE = Path("params.yaml")
# DVC needs every dependency to be a file. An empty one that git tracks stands for "not set".
NOT_SET = "data/none"
# Names of datasets and fine-tuning runs. They become parts of paths that DVC deletes before a stage runs.
ITEM_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"
# Old sections and keys of params.yaml, and old values by key, with what replaces them.
RENAMED = {
    "data.hub.text": "data.hub.text_column",
    "tokenizer.kind": "tokenizer.type",
    "model.mlp": "model.activation",
    "model.tied": "model.tie_embeddings",
    "train.length_warmup_steps": "train.seq_len_warmup_steps",
    "evaluate.corpora": "evaluate.datasets",
    "quality": "eval_samples",
    "finetune": "sft",
}
RENAMED_ITEM_KEYS = {"kind": "metric", "requests": "num_eval_prompts"}
RENAMED_VALUES = {
    ("data.source", "embedded"): "synthetic",
    ("model.architecture", "classic"): "gpt2",
    ("model.architecture", "modern"): "rope",
    ("sft.tasks", "write"): "story",
    ("sft.tasks", "continue"): "continuation",
    ("sft.tasks", "sum_up"): "summary",
    ("sft.tasks", "answer"): "qa",
}
# Wrong values can be anything, of any size.
SHORT = reprlib.Repr()
SHORT.maxlevel = 1
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 80

M = TypeVar("M", bound=BaseModel)


class StrictModel(BaseModel):
    """A schema with strict types (no string for a number), without unknown keys, NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ParamsSection(StrictModel):
    """A section of params.yaml. Subclasses name it and lie beside the code that uses them."""

    section: ClassVar[str]

    @classmethod
    def load(cls, path: Path = PARAMS_FILE) -> Self:
        """Read this section of the file. Raises UserError with a line for each wrong key."""
        return cls.check(read_yaml(path).get(cls.section, {}), path)

    @classmethod
    def check(cls, values: Any, path: Path = PARAMS_FILE) -> Self:
        """Validate plain values. Raises UserError with a line for each wrong key."""
        return validate(cls, values, str(path), cls.section)


def validate(schema: type[M], values: Any, where: str, key: str = "") -> M:
    """Validate plain values. Raises UserError with a line `where: key: problem` for each wrong key."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        problems = format_errors(error.errors(), schema, key).items()
        lines = [": ".join(filter(None, (where, key, problem))) for key, problem in problems]
        raise UserError("\n".join(lines)) from None


def format_errors(errors: list[ErrorDetails], schema: type[BaseModel], prefix: str = "") -> dict[str, str]:
    """Describe pydantic's errors by key: "must be …, got …".

    `prefix` is the key of the validated value itself. Each member of a union reports an error of its own;
    these are joined by "or".
    """
    problems: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for error in errors:
        key = ".".join(filter(None, [prefix, *(str(part) for part in error["loc"] if not _is_tag(part))]))
        problem = _problem(error, schema, key)
        values[key] = error["input"]
        problems.setdefault(key, []).append(problem)
    lines = {}
    for key, texts in problems.items():
        has_value = all(text.startswith("must ") and ", got " not in text for text in texts)
        got = f", got {SHORT.repr(values[key])}" if has_value else ""
        lines[key] = " or ".join([texts[0], *(text.removeprefix("must ") for text in texts[1:])]) + got
    return lines


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file as DVC does, with its YAML 1.2 parser, to which 1e-3 is a number."""
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
    # For example a control character, or a number of 5,000 digits.
    except (YAMLError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML: {error}".splitlines()[0].partition(";")[0]) from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be a mapping of sections, got {SHORT.repr(values)}")
    return values


def _problem(error: ErrorDetails, schema: type[BaseModel], key: str) -> str:
    """Describe one of pydantic's errors, without the value."""
    kind, message = error["type"], error["msg"]
    if kind == "missing":
        return "missing"
    if kind in {"extra_forbidden", "invalid_key"}:
        if key in RENAMED:
            return f"was renamed to {RENAMED[key]}"
        section, name = key.partition(".")[0], key.rpartition(".")[2]
        expected = _model_at(schema, error["loc"][:-1]).model_fields
        if section in ("evaluate", "sft") and RENAMED_ITEM_KEYS.get(name) in expected:
            return f"was renamed to {RENAMED_ITEM_KEYS[name]}"
        return f"unknown key; must be one of {', '.join(expected)}"
    # Validators of this project name the value themselves.
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    base = re.sub(r"^sft\.\w+\.tasks\..*", "sft.tasks", key)
    if new := RENAMED_VALUES.get((base, error["input"] if isinstance(error["input"], str) else "")):
        return f"{error['input']} was renamed to {new}"
    message = re.sub(r"^[\w ]+ should ", "must ", message)
    message = re.sub(r" after validation, not \d+", "", message)
    return re.sub("a valid dictionary( or instance of \\w+)?", "a mapping", message)


def _is_tag(part: int | str) -> bool:
    """Return whether pydantic added this part of a location to name a member of a union, not a key."""
    return isinstance(part, str) and ("[" in part or part in {"bool", "int", "float", "str", "none"})


def _model_at(schema: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the nested schema that a location lies in."""
    model: type[BaseModel] = schema
    parts = iter(loc)
    for part in parts:
        if field := model.model_fields.get(str(part)):
            annotation: Any = field.annotation
            # The next part of the location is a key of the mapping.
            if get_origin(annotation) is dict:
                next(parts, None)
        else:
            # This schema is itself a mapping of schemas by name.
            annotation = model.__annotations__["__pydantic_extra__"]
        # X | None and dict[str, X] have the schema inside.
        types = (annotation, *get_args(annotation))
        model = next(t for t in types if isinstance(t, type) and issubclass(t, BaseModel))
    return model


def is_set(path: str, key: str) -> bool:
    """Return whether a param names a file or folder, and not NOT_SET.

    Raises UserError if NOT_SET is not empty: git would overwrite what the user put there.
    """
    if path != NOT_SET:
        return True
    if Path(NOT_SET).is_file() and Path(NOT_SET).stat().st_size:
        raise UserError(
            f"{NOT_SET}: must stay empty, it means that no file is set; move your file to data/user/ and set "
            f"{key} to it"
        )
    return False
