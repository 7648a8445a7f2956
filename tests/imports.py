"""Which of the project's own files a module imports, directly or through others."""

import ast
from pathlib import Path


def imported_files(entry: Path, root: Path) -> set[str]:
    """The entry and every file of the project that importing and running it can load, relative to root."""
    found: set[Path] = set()
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting.extend(_direct_imports(path, root))
    return {path.relative_to(root).as_posix() for path in found}


def _direct_imports(path: Path, root: Path) -> list[Path]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    files = []
    for name in names:
        parts = name.split(".")
        if parts[0] in {"slm", "stages"}:
            packages = [root.joinpath(*parts[:n], "__init__.py") for n in range(1, len(parts) + 1)]
            files += [p for p in (*packages, root.joinpath(*parts).with_suffix(".py")) if p.is_file()]
    return files
