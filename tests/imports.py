"""Find the import closure of a module from its source."""

import ast
import sys
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

from slm.core.stage import read_pins

PACKAGES = {"slm", "stages", "storygrammar"}
# Every version of these libraries stores the same values, so a stage that only reads and writes data with
# them need not depend on their versions. A stage that computes imports another library of the same file.
CONTAINERS = {"numpy", "pyarrow"}


def imported_files(entry: Path) -> set[str]:
    """Return the entry and every file of the project that importing and running it can load."""
    files: set[Path] = set()
    queue = [entry]
    while queue:
        path = queue.pop()
        if path not in files:
            files.add(path)
            queue += [file for name in _imported_names(path) for file in _files_of(name)]
    return {path.as_posix() for path in files}


def imported_libraries(files: Iterable[str]) -> set[str]:
    """Return the top-level names that the files import from neither the project nor the standard library."""
    names = {name.split(".")[0] for file in files for name in _imported_names(Path(file))}
    return names - PACKAGES - sys.stdlib_module_names


def requirements_of_libraries() -> dict[str, set[str]]:
    """Map each installed library, by import name, to the files of requirements/ that pin it."""
    file_of = {
        name: path.as_posix() for path in Path("requirements").glob("*.txt") for name in read_pins(path)
    }
    return {
        library: {file_of[p] for p in packages if p in file_of and p not in CONTAINERS}
        for library, packages in packages_distributions().items()
    }


def _imported_names(path: Path) -> set[str]:
    """Return the dotted names that a file imports, also inside functions: modules, or names in them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _files_of(name: str) -> list[Path]:
    """Return the project's files that importing a module, or a name in it, loads."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return []
    levels = [Path(*parts[:n]) for n in range(1, len(parts) + 1)]
    files = [file for level in levels for file in (level / "__init__.py", level.with_suffix(".py"))]
    return [file for file in files if file.is_file()]
