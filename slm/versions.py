"""The libraries that can change a result: which versions the project pins, and which are installed."""

import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


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
