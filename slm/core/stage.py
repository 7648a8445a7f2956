"""The libraries that can change a result: which versions the project pins, and which are installed.
A stage as dvc.yaml declares it: what it may read, and whether that stayed as it was while the stage ran.

DVC looks at a stage's inputs when the stage has ended, and would record what they are then. An edit made
meanwhile would so be stored as if the results had been made with it; here it makes the stage fail instead.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import file_digest
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pathspec import GitIgnoreSpec

from slm.core.config import (
    ITEM_NAME,
    PARAMS_FILE,
    ParamsSection,
    format_value,
    is_set,
    read_params,
    read_yaml,
)
from slm.core.errors import UserError, run_command
from slm.core.files import append_line


def installed_versions(requirements: Iterable[Path]) -> dict[str, str]:
    """The installed version of each library that these files pin; says so where it is another one."""
    installed = {}
    for path in requirements:
        for name, pinned in pins(path).items():
            found = installed[name] = _installed(name)
            if found != pinned:
                print(f"warning: {name} {found} is installed, {path} pins {pinned}", file=sys.stderr)
    return installed


def pins(path: Path) -> dict[str, str]:
    """The lines `name==version` of a requirements file."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {name: pinned for name, is_pin, pinned in (line.partition("==") for line in lines) if is_pin}


def _installed(name: str) -> str:
    """Without the local part, which tells builds of one version apart (2.13.0+cpu)."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "none"


DVC_FILE = Path("dvc.yaml")
IGNORE_FILE = Path(".dvcignore")
LOG = Path(".slm/log.jsonl")
S = TypeVar("S", bound=ParamsSection)


class File(NamedTuple):
    """A file that a stage depends on, as it was at the start."""

    stat: tuple[int, ...]  # while it is the same, so is the content
    sha256: str


class Stage:
    """What dvc.yaml says of a stage, and the inputs it declares as they were at the start.

    `measured` is for numbers that differ from run to run; they go to the log, not to the results.
    """

    def __init__(self, name: str):
        values = read_params()
        declared, names = declaration(name, values)
        self.name = name
        self.item = name.partition("@")[2]  # of `foreach`: wikitext2 of eval_dataset@wikitext2; else empty
        self._declared = [resolve(param, names) for param in declared.get("params", [])]
        self.params = pick(values, self._declared)
        self.deps = [resolve(dep, names) for dep in declared["deps"]]
        for dep, path in zip(declared["deps"], self.deps, strict=True):
            # A filled placeholder is an error even where the stage would not read it.
            is_set(path, dep.strip("${}").replace("item.", f"{self.item}."))
        self.files = {str(path): _look_at(path) for path in self._paths()}
        self.versions = installed_versions(Path(dep) for dep in self.deps if dep.startswith("requirements/"))
        self.measured: dict[str, Any] = {}

    def load(self, section: type[S]) -> S:
        """A section of params.yaml, checked.

        Raises LookupError if dvc.yaml does not declare it for this stage, UserError with a line a wrong key.
        """
        if section.section not in self.params:
            raise LookupError(
                f"{DVC_FILE}: stage {self.name} does not declare the params `{section.section}`"
            )
        return section.check(self.params[section.section])

    def inputs(self) -> dict[str, Any]:
        """All that dvc.yaml declares and what is installed, in plain values: what the results depend on."""
        files = {name: file.sha256 for name, file in self.files.items()}
        of = {"name": self.name}  # the items of a `foreach` may have all else in common
        return {"stage": of, "params": self.params, "files": files, "versions": self.versions}

    def made_with(self) -> str:
        """Return the installed versions as text, for the end of a report."""
        return ", ".join(f"{name}=={version}" for name, version in self.versions.items())

    def changes(self) -> list[str]:
        """The files and params that are not what they were at the start."""
        params = pick(read_params(), self._declared)
        changed = [
            f"{PARAMS_FILE} ({key})"
            for section, before in self.params.items()
            for key in _differences(before, params[section], section)
        ]
        now = {str(path) for path in self._paths()}
        for name in sorted(now | self.files.keys()):
            before = self.files.get(name)
            if name not in now or before is None or not _is_still(Path(name), before):
                changed.append(name)
        return changed

    def check_unchanged(self) -> None:
        """Raise UserError if a declared input is not what it was at the start."""
        if changed := self.changes():
            what = f"{self.name} ran with what was there at its start; run dvc repro again"
            raise UserError("\n".join(f"{name} changed while the stage ran: {what}" for name in changed))

    def _paths(self) -> Iterator[Path]:
        """Yield the declared files and those in declared folders that DVC does not ignore.

        A missing file is left out: the code that needs it reports it.
        """
        ignored = GitIgnoreSpec.from_lines(_read_lines(IGNORE_FILE))
        for dep in map(Path, self.deps):
            found = sorted(dep.rglob("*")) if dep.is_dir() else [dep]
            yield from (path for path in found if path.is_file() and not ignored.match_file(path))


def run_stage(name: str, main: Callable[[Stage], None]) -> None:
    """Run a stage and log its duration. A user's error ends in one line and status 1."""

    def run() -> None:
        stage = Stage(name)
        with _logged(stage):
            main(stage)
            stage.check_unchanged()

    run_command(run)


def run_item(name: str, main: Callable[[Stage], None]) -> None:
    """Run one item of a `foreach` stage: python -m stages.sft NAME.

    Under DVC the environment variable DVC_STAGE has the name: sft@NAME, after dvc.yaml's path and a colon if
    dvc runs in a subfolder. It is not an argument in dvc.yaml: names are keys of params.yaml, and a shell
    would run what they contain.
    """

    def run() -> None:
        address = re.fullmatch(
            rf"(?:.*dvc\.yaml:)?{name}@(.*)", os.environ.get("DVC_STAGE", ""), flags=re.DOTALL
        )
        arguments = sys.argv[1:] or (address.groups() if address else ())
        if len(arguments) != 1:
            raise UserError(f"usage: python -m stages.{name} NAME")
        check_name(arguments[0], f"{PARAMS_FILE}: {name}")
        run_stage(f"{name}@{arguments[0]}", main)

    run_command(run)


def check_names(values: dict[str, Any], key: str, file: Path = PARAMS_FILE) -> None:
    """Raise UserError unless the items at a key of params.yaml are a mapping and can be parts of paths.

    Of a list DVC would make stages, too; ${key} in their paths would be the value of any section `key`.
    """
    items = look_up(values, key)
    if not isinstance(items, dict):
        raise UserError(f"{file}: {key}: must be a mapping from names to items, got {format_value(items)}")
    for name in items:
        check_name(name, f"{file}: {key}")


def check_name(item: Any, where: str) -> None:
    """Raise UserError unless the name of a dataset or a fine-tuning run can be part of a path."""
    if not isinstance(item, str):
        raise UserError(f"{where}: names must be strings, got {format_value(item)} (put it in quotes)")
    if not re.fullmatch(ITEM_NAME, item):
        raise UserError(
            f"{where}: a name must be letters, digits, _ and -, not beginning with -, "
            f"got {format_value(item)}"
        )


@contextmanager
def _logged(stage: Stage) -> Iterator[None]:
    """Add a line to the log: when the stage ran, how it ended, how long it took, what it measured."""
    start, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    result = "failed"
    try:
        yield
        result = "done"
    except KeyboardInterrupt:
        result = "interrupted"
        raise
    finally:
        entry: dict[str, Any] = {"started": started, "stage": stage.name, "result": result}
        entry |= {"seconds": round(time.monotonic() - start, 3), **stage.measured, "versions": stage.versions}
        if experiment := os.environ.get("DVC_EXP_NAME"):
            entry["experiment"] = experiment
        try:
            append_line(project_folder() / LOG, entry)
        except UserError as error:  # the results do not depend on it
            print(f"warning: {error}", file=sys.stderr)


def project_folder() -> Path:
    """The project's own folder, even where an experiment runs in a copy of it."""
    return Path(os.environ.get("DVC_ROOT", "."))


def declaration(name: str, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What dvc.yaml says of a stage, and what its ${…} stand for: `values`, and the item of a `foreach`."""
    stage, _, key = name.partition("@")
    declared = read_yaml(DVC_FILE)["stages"][stage]
    if not key:
        return declared, values
    items = look_up(values, declared["foreach"])
    names = [name for name in items if isinstance(name, str)] if isinstance(items, dict) else []
    if key not in names:
        where = f"{PARAMS_FILE}: {declared['foreach'].strip('${}')}"
        raise UserError(f"{where}: must contain {key!r}; it has {', '.join(names) or 'no names'}")
    return declared["do"], values | {"key": key, "item": items[key]}


def pick(values: dict[str, Any], params: Iterable[str]) -> dict[str, Any]:
    """The sections of params.yaml that are declared; of sft.NAME nothing but that key of the section."""
    picked = {}
    for param in params:
        section, _, key = param.partition(".")
        picked[section] = {key: look_up(values, param)} if key else values.get(section, {})
    return picked


def resolve(text: str, values: dict[str, Any]) -> str:
    """Fill in the ${…} of a text of dvc.yaml with values of params.yaml."""

    def value(match: re.Match[str]) -> str:
        found = look_up(values, match[0])
        return match[0] if found is None else str(found)  # a wrong key is the section's to complain of

    return re.sub(r"\$\{[^}]+\}", value, text)


def look_up(values: dict[str, Any], reference: str) -> Any:
    """The value of a key with dots, or of a ${…}; None if there is none."""
    found: Any = values
    for key in reference.removeprefix("${").removesuffix("}").split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _look_at(path: Path) -> File:
    with path.open("rb") as file:
        return File(_stat(path), file_digest(file, "sha256").hexdigest())


def _is_still(path: Path, before: File) -> bool:
    return _stat(path) == before.stat or _look_at(path).sha256 == before.sha256


def _stat(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _differences(before: Any, after: Any, key: str) -> list[str]:
    """The keys, with dots, whose values differ."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [key]
    keys = sorted(before.keys() | after.keys())
    return [found for k in keys for found in _differences(before.get(k), after.get(k), f"{key}.{k}")]
