"""Run a stage with the inputs that dvc.yaml declares, and fail if one of them changes meanwhile.

DVC hashes the inputs of a stage after it has run. An edit made during the run would be recorded as if the
results had been made with it, so here it makes the stage fail instead.
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
    PARAMS_FILE,
    ParamsSection,
    check_item_name,
    get_value,
    is_set,
    read_params,
    read_yaml,
)
from slm.core.errors import UserError, run_command
from slm.core.files import append_line

DVC_FILE = Path("dvc.yaml")
IGNORE_FILE = Path(".dvcignore")
LOG = Path(".slm/log.jsonl")
S = TypeVar("S", bound=ParamsSection)


class InputFile(NamedTuple):
    """The hash of a file, and its inode, size and modification time when it was read."""

    sha256: str
    stat: tuple[int, int, int]


class Stage:
    """A stage of dvc.yaml, NAME or NAME@ITEM, with its declared inputs as they were at the start."""

    def __init__(self, name: str):
        values = read_params()
        definition, placeholders = read_definition(name, values)
        self.name = name
        # The part of a `foreach` stage: wikitext2 of eval_dataset@wikitext2. Else empty.
        self.item = name.partition("@")[2]
        self._declared_params = [resolve(param, placeholders) for param in definition.get("params", [])]
        self.params = select_params(values, self._declared_params)
        self.deps = [resolve(dep, placeholders) for dep in definition["deps"]]
        # Check each param that names a dependency, even if the stage would not read the file.
        for dep, path in zip(definition["deps"], self.deps, strict=True):
            is_set(path, dep.strip("${}"))
        self.files = _hash_files(self.deps, {})
        self.versions = check_versions(Path(dep) for dep in self.deps if dep.startswith("requirements/"))
        # Numbers that differ between runs, such as durations. They go to the log, not to the results.
        self.measured: dict[str, Any] = {}

    def load(self, section: type[S]) -> S:
        """Return a section of params.yaml.

        Raises LookupError if dvc.yaml does not declare it for this stage, and UserError with a line for each
        wrong key.
        """
        if section.section not in self.params:
            raise LookupError(
                f"{DVC_FILE}: stage {self.name} does not declare the params `{section.section}`"
            )
        return section.check(self.params[section.section])

    def inputs(self) -> dict[str, Any]:
        """Return everything that the results depend on, in plain values.

        The name is included because the items of a `foreach` stage may have all other inputs in common.
        """
        stage, files = {"name": self.name}, _hashes(self.files)
        return {"stage": stage, "params": self.params, "files": files, "versions": self.versions}

    def format_versions(self) -> str:
        """Return the installed versions as text, for the end of a report."""
        return ", ".join(f"{name}=={version}" for name, version in self.versions.items())

    def changed_inputs(self) -> list[str]:
        """Return the declared params and files that have changed since the start."""
        params = select_params(read_params(), self._declared_params)
        keys = [key for name in params for key in _changed_keys(self.params[name], params[name], name)]
        before, after = _hashes(self.files), _hashes(_hash_files(self.deps, self.files))
        files = {name for name, _ in before.items() ^ after.items()}
        return [f"{PARAMS_FILE} ({key})" for key in keys] + sorted(files)

    def check_unchanged(self) -> None:
        """Raise UserError if a declared input has changed since the start."""
        if names := self.changed_inputs():
            lines = [f"{name} changed while the stage ran; run dvc repro again" for name in names]
            raise UserError("\n".join(lines))


def run_stage(name: str, main: Callable[[Stage], None], foreach: bool = False) -> None:
    """Run a stage and log its duration. A UserError ends in one line and status 1.

    An item of a `foreach` stage is run by `python -m stages.sft ITEM`.
    """

    def run() -> None:
        stage = Stage(f"{name}@{_item_argument(name)}" if foreach else name)
        with _logging(stage):
            main(stage)
            stage.check_unchanged()

    run_command(run)


def _item_argument(name: str) -> str:
    """Return the item to run: the program's argument or, under DVC, a part of the variable DVC_STAGE.

    DVC sets it to sft@ITEM, after dvc.yaml's path and a colon if it runs in a subfolder. The item is not an
    argument in dvc.yaml: it is a key of params.yaml, and a shell would run what it contains.
    """
    address = re.fullmatch(rf"(?:.*dvc\.yaml:)?{name}@(.*)", os.environ.get("DVC_STAGE", ""), flags=re.DOTALL)
    arguments = sys.argv[1:] or (address.groups() if address else ())
    if len(arguments) != 1:
        raise UserError(f"usage: python -m stages.{name} NAME")
    check_item_name(arguments[0], f"{PARAMS_FILE}: {name}")
    return arguments[0]


@contextmanager
def _logging(stage: Stage) -> Iterator[None]:
    """Append a line to the log: when the stage ran, its result, its duration and its measurements."""
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
        # The results do not depend on the log, so a failure to write it is only a warning.
        try:
            append_line(project_folder() / LOG, entry)
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)


def project_folder() -> Path:
    """Return the project's own folder, even if a DVC experiment runs in a copy of it."""
    return Path(os.environ.get("DVC_ROOT", "."))


def read_definition(name: str, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the definition of a stage in dvc.yaml, and the values of its placeholders ${…}.

    These are the values of params.yaml and, for NAME@ITEM, the `key` of the `foreach` stage. Its placeholders
    ${item.KEY} become ${SECTION.ITEM.KEY}.
    """
    stage, _, key = name.partition("@")
    definition = read_yaml(DVC_FILE)["stages"][stage]
    if not key:
        return definition, values
    section = definition["foreach"].strip("${}")
    items = get_value(values, section)
    names = [name for name in items if isinstance(name, str)] if isinstance(items, dict) else []
    if key not in names:
        where = f"{PARAMS_FILE}: {section}"
        raise UserError(f"{where}: must contain {key!r}, got {', '.join(names) or 'no names'}")
    deps = [dep.replace("${item.", f"${{{section}.{key}.") for dep in definition["do"]["deps"]]
    return definition["do"] | {"deps": deps}, values | {"key": key}


def select_params(values: dict[str, Any], params: Iterable[str]) -> dict[str, Any]:
    """Return the declared sections of params.yaml; for the param sft.NAME, `sft` has only this key."""
    selected = {}
    for param in params:
        section, _, key = param.partition(".")
        selected[section] = {key: get_value(values, param)} if key else values.get(section, {})
    return selected


def resolve(text: str, values: dict[str, Any]) -> str:
    """Replace the placeholders ${…} by their values. Unknown ones stay: the section's check reports them."""

    def replacement(match: re.Match[str]) -> str:
        value = get_value(values, match[1])
        return match[0] if value is None else str(value)

    return re.sub(r"\$\{([^}]+)\}", replacement, text)


def check_versions(requirements: Iterable[Path]) -> dict[str, str]:
    """Return the installed version of each library that these files pin; warn if it is not the pinned one."""
    installed = {}
    for path in requirements:
        for name, pinned in read_pins(path).items():
            # Leave out the local part, which names the build of a version (2.13.0+cpu).
            try:
                actual = version(name).partition("+")[0]
            except PackageNotFoundError:
                actual = "none"
            installed[name] = actual
            if actual != pinned:
                print(f"warning: {name} {actual} is installed, {path} pins {pinned}", file=sys.stderr)
    return installed


def read_pins(path: Path) -> dict[str, str]:
    """Return the pinned versions, lines `name==version`, of a requirements file."""
    lines = (line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return {name: pinned for name, is_pin, pinned in (line.partition("==") for line in lines) if is_pin}


def _hash_files(deps: Iterable[str], known: dict[str, InputFile]) -> dict[str, InputFile]:
    """Hash the files of the dependencies, except for known ones with the same inode, size and time.

    Files that DVC ignores are left out, and missing ones: the code that needs a file reports it.
    """
    patterns = IGNORE_FILE.read_text(encoding="utf-8").splitlines() if IGNORE_FILE.is_file() else []
    ignored = GitIgnoreSpec.from_lines(patterns)
    files = {}
    for dep in map(Path, deps):
        for path in sorted(dep.rglob("*")) if dep.is_dir() else [dep]:
            if not path.is_file() or ignored.match_file(path):
                continue
            status = path.stat()
            stat = status.st_ino, status.st_size, status.st_mtime_ns
            file = known.get(str(path))
            if file is None or file.stat != stat:
                with path.open("rb") as content:
                    file = InputFile(file_digest(content, "sha256").hexdigest(), stat)
            files[str(path)] = file
    return files


def _hashes(files: dict[str, InputFile]) -> dict[str, str]:
    return {name: file.sha256 for name, file in files.items()}


def _changed_keys(before: Any, after: Any, key: str) -> list[str]:
    """Return the keys, with dots, whose values differ."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [key]
    keys = sorted(before.keys() | after.keys())
    return [changed for k in keys for changed in _changed_keys(before.get(k), after.get(k), f"{key}.{k}")]
