"""Open pages in headless Chromium."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
needs_browser = pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")


def dom_of(page: Path, profile: Path, *options: str) -> str:
    """Return the DOM of a page, as HTML, after its scripts have run."""
    command = [*_command(profile), *options, "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@contextmanager
def open_page(url: str, profile: Path) -> Iterator[None]:
    """Keep a page open."""
    with subprocess.Popen([*_command(profile), url], stderr=subprocess.DEVNULL) as browser:
        try:
            yield
        finally:
            browser.terminate()


def _command(profile: Path) -> list[str]:
    return ["chromium", *OPTIONS, f"--user-data-dir={profile}"]
