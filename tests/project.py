"""Copies of the project in temporary folders, to run the real pipeline in."""

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

from ruamel.yaml import YAML

from slm.cli.main import main as slm_main
from slm.core import stage
from slm.core.errors import run_command

ROOT = Path(__file__).parents[1]

TINY = {
    "data": {"max_documents": 300, "validation_fraction": 0.1},
    "tokenizer": {"vocab_size": 300},
    "model": {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 32},
    "train": {
        "batch_size": 2,
        "max_steps": 6,
        "warmup_steps": 2,
        "decay_steps": 2,
        "eval_interval": 3,
        "eval_tokens": 200,
    },
    "evaluate": {"ngram_order": 3, "minimal_pairs": 2},
    "sample": {"prompts": ["", "Once"], "num_samples": 2, "max_new_tokens": 20},
    "eval_samples": {"num_samples": 3, "max_new_tokens": 20, "temperatures": [1.0]},
}


def clone(folder: Path, params: dict[str, dict] = TINY) -> Path:
    """Create a git repository in `folder` with the project's working tree and other params."""
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    change_params(folder, params)
    start_git(folder)
    commit(folder)
    return folder


def outputs(stage: dict) -> list[str]:
    """Return the paths that a stage writes."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def start_git(folder: Path) -> None:
    """Make a folder a git repository with an author; a repository keeps its commits."""
    git(folder, "init", "-q", "-b", "main")
    git(folder, "config", "user.name", "Test")
    git(folder, "config", "user.email", "test@example.com")


def commit(folder: Path) -> None:
    """Commit everything."""
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "Commit everything")


def change_params(folder: Path, changes: dict[str, dict]) -> None:
    """Change keys of params.yaml."""
    yaml, path = YAML(), folder / "params.yaml"
    values = yaml.load(path.read_text(encoding="utf-8"))
    for section, keys in changes.items():
        values[section].update(keys)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(values, file)


def run_stage(folder: Path, name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a stage without DVC in a new process."""
    env = {**os.environ, **environment}
    command = [sys.executable, "-m", f"stages.{name}"]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=200
    )


def run_stages(*names: str) -> None:
    """Run stages without DVC in the current folder and in this process, which has imported torch already."""
    for name in names:
        stage.run_stage(name, import_module(f"stages.{name.partition('@')[0]}").main)


def run_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` in the current folder, in this process."""
    return _run_here([module, *arguments], lambda: run_command(import_module(module).main))


def run_slm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `slm ARGUMENTS` in the current folder, in this process."""
    return _run_here(["slm", *arguments], slm_main)


def _run_here(argv: list[str], main: Callable[[], None]) -> subprocess.CompletedProcess[str]:
    out, err, status = io.StringIO(), io.StringIO(), 0
    with patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    return subprocess.CompletedProcess(argv, status, out.getvalue(), err.getvalue())


def git(folder: Path, *arguments: str) -> str:
    """Run a git command and return its output."""
    result = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return result.stdout
