"""Read YAML and validate it with strict pydantic models; errors are one line per key."""

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
# Names of datasets and fine-tuning runs. They are parts of paths that DVC deletes before a stage runs.
ITEM_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"
# Old sections and keys of params.yaml with their new names. * stands for the name of an item.
RENAMED = {
    "data.hub.text": "data.hub.text_column",
    "evaluate.corpora": "evaluate.datasets",
    "evaluate.datasets.*.hub.text": "evaluate.datasets.*.hub.text_column",
    "evaluate.datasets.*.kind": "evaluate.datasets.*.metric",
    "finetune": "sft",
    "model.mlp": "model.activation",
    "model.tied": "model.tie_embeddings",
    "quality": "eval_samples",
    "sft.*.requests": "sft.*.num_eval_prompts",
    "sft.*.tasks.answer": "sft.*.tasks.qa",
    "sft.*.tasks.continue": "sft.*.tasks.continuation",
    "sft.*.tasks.sum_up": "sft.*.tasks.summary",
    "sft.*.tasks.write": "sft.*.tasks.story",
    "tokenizer.kind": "tokenizer.type",
    "train.length_warmup_steps": "train.seq_len_warmup_steps",
}
# Old values of keys with their new names.
RENAMED_VALUES = {
    "data.source": {"embedded": "synthetic"},
    "evaluate.datasets.*.metric": {
        "text": "bits_per_byte",
        "words": "word_perplexity",
        "last_word": "last_word_accuracy",
    },
    "model.architecture": {"classic": "gpt2", "modern": "rope"},
}
# Wrong values can be of any size.
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 1
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80

M = TypeVar("M", bound=BaseModel)


class StrictModel(BaseModel):
    """A schema with strict types (no string for a number) that rejects unknown keys, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ParamsSection(StrictModel):
    """A section of params.yaml. Subclasses set its name and are in the package that uses them."""

    section: ClassVar[str]

    @classmethod
    def load(cls, path: Path = PARAMS_FILE) -> Self:
        """Read this section of the file. Raises UserError with a line for each wrong key."""
        return cls.check(read_params(path).get(cls.section, {}), path)

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

    `prefix` is the key of the validated value itself. Errors of the members of a union are joined by "or".
    """
    problems: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    for error in errors:
        key = ".".join(filter(None, [prefix, *(str(part) for part in error["loc"] if not _is_tag(part))]))
        values[key] = error["input"]
        problems.setdefault(key, []).append(_describe_problem(error, schema, key))
    lines = {}
    for key, texts in problems.items():
        lines[key] = " or ".join([texts[0], *(text.removeprefix("must be ") for text in texts[1:])])
        if texts[0].startswith("must ") and ", got " not in lines[key]:
            lines[key] += f", got {format_value(values[key])}"
    # A key that is present under its old name is not reported as missing.
    replaced = {new for key in lines if (new := new_name(key))}
    return {key: line for key, line in lines.items() if not (line == "missing" and key in replaced)}


def new_name(key: str) -> str | None:
    """Return the new name of an old section or key of params.yaml, or None if it is not an old one."""
    parts = key.split(".")
    for old, new in RENAMED.items():
        if _matches(key, old):
            items = [part for part, pattern in zip(parts, old.split("."), strict=True) if pattern == "*"]
            return ".".join(items.pop(0) if part == "*" else part for part in new.split("."))
    return None


def format_value(value: Any) -> str:
    """Return a value as in params.yaml and JSON, shortened if it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return _SHORT.repr(value)


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Read params.yaml. Raises UserError if it cannot be read or has a section with an old name."""
    values = read_yaml(path)
    lines = [f"{path}: {key}: was renamed to {new}" for key in values if (new := new_name(str(key)))]
    if lines:
        raise UserError("\n".join(lines))
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file with the parser of DVC: in YAML 1.2, 1e-3 is a number.

    Raises UserError if the file is missing, is not valid YAML or is not a mapping.
    """
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project folder") from None
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
        raise UserError(f"{path}: must be a mapping of sections, got {format_value(values)}")
    return values


def get_value(values: dict[str, Any], key: str) -> Any:
    """Return the value of a key with dots, or of a placeholder ${KEY} of dvc.yaml; None if it is missing."""
    value: Any = values
    for part in key.removeprefix("${").removesuffix("}").split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def check_item_names(values: dict[str, Any], key: str, file: Path = PARAMS_FILE) -> None:
    """Raise UserError unless the items at a key of params.yaml are a mapping and can be parts of paths.

    DVC would make stages of a list, too; ${key} in their paths would be the value of any section `key`.
    """
    items = get_value(values, key)
    if not isinstance(items, dict):
        raise UserError(f"{file}: {key}: must be a mapping from names to items, got {format_value(items)}")
    for name in items:
        check_item_name(name, f"{file}: {key}")


def check_item_name(name: Any, where: str) -> None:
    """Raise UserError unless the name of a dataset or a fine-tuning run can be part of a path."""
    if not isinstance(name, str):
        raise UserError(f"{where}: names must be strings, got {format_value(name)} (put it in quotes)")
    if not re.fullmatch(ITEM_NAME, name):
        raise UserError(
            f"{where}: a name must be letters, digits, _ and -, not beginning with -, "
            f"got {format_value(name)}"
        )


def is_set(path: str, key: str) -> bool:
    """Return whether a param names a file or folder, and not NOT_SET.

    Raises UserError if NOT_SET is not empty: git would overwrite data of the user there.
    """
    if Path(path) != Path(NOT_SET):
        return True
    if Path(NOT_SET).is_dir() or (Path(NOT_SET).is_file() and Path(NOT_SET).stat().st_size):
        raise UserError(
            f"{NOT_SET}: must be empty, because it stands for no file; move your data to data/user/ "
            f"and set {key} to its path"
        )
    return False


def _describe_problem(error: ErrorDetails, schema: type[BaseModel], key: str) -> str:
    """Describe one of pydantic's errors, without the value."""
    error_type, message, value = error["type"], error["msg"], error["input"]
    is_key = error_type in {"extra_forbidden", "invalid_key"} or error["loc"][-1:] == ("[key]",)
    if is_key and (new := new_name(key)):
        return f"was renamed to {new}"
    for old_key, new_values in RENAMED_VALUES.items():
        if isinstance(value, str) and value in new_values and _matches(key, old_key):
            return f"{value!r} was renamed to {new_values[value]!r}"
    if error_type == "missing":
        return "missing"
    if error_type in {"extra_forbidden", "invalid_key"}:
        return (
            f"unknown key; must be one of {', '.join(_nested_schema(schema, error['loc'][:-1]).model_fields)}"
        )
    # Messages of this project's validators contain the value.
    if error_type == "value_error":
        return message.removeprefix("Value error, ")
    message = re.sub(r"^[\w ]+ should ", "must ", message)
    message = re.sub(r",? (after validation|got a number|unable to parse).*", "", message)
    return re.sub(r"a valid dictionary( or .*)?", "a mapping", message)


def _matches(key: str, pattern: str) -> bool:
    """Return whether a key matches a pattern, in which * stands for any one part."""
    parts, patterns = key.split("."), pattern.split(".")
    return len(parts) == len(patterns) and all(
        p in ("*", part) for p, part in zip(patterns, parts, strict=True)
    )


def _is_tag(part: int | str) -> bool:
    """Return whether this part of a pydantic location is the name of a union member, not a key."""
    return isinstance(part, str) and ("[" in part or part in {"bool", "int", "float", "str", "none"})


def _nested_schema(schema: type[BaseModel], loc: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the nested schema at a location."""
    model: type[BaseModel] = schema
    parts = iter(loc)
    for part in parts:
        if field := model.model_fields.get(str(part)):
            annotation: Any = field.annotation
            # The next part of the location is a key or an index.
            if get_origin(annotation) in (dict, list):
                next(parts, None)
        else:
            # This schema is itself a mapping of schemas by name.
            annotation = model.__annotations__["__pydantic_extra__"]
        # The schema may be an argument: X | None, dict[str, X].
        types = (annotation, *get_args(annotation))
        model = next(t for t in types if isinstance(t, type) and issubclass(t, BaseModel))
    return model
