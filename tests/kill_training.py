"""Kill training runs at random moments and hash what they leave."""

import os
import shutil
import subprocess
import sys
import time
from contextlib import chdir, suppress
from hashlib import sha256
from pathlib import Path
from random import Random
from unittest.mock import patch

import psutil
from dvc.cli import main as dvc

from tests.project import TINY, clone, run_stages

# Long enough to be killed in the middle, with everything that a state has to hold.
LONG = {
    **TINY,
    "model": {**TINY["model"], "dropout": 0.1},
    "train": {**TINY["train"], "max_steps": 600, "grad_accum_steps": 2, "eval_interval": 75},
}
ENVIRONMENT = {"SLM_CHECKPOINT_INTERVAL": "0.05", "SLM_PROGRESS": "off", "OMP_NUM_THREADS": "1"}
DVC = (sys.executable, "-m", "dvc", "repro", "train")
STAGE = (sys.executable, "-m", "stages.train")


def project(folder: Path, max_steps: int = LONG["train"]["max_steps"]) -> Path:
    """Clone the project and run the stages before train."""
    folder = clone(folder, {**LONG, "train": {**LONG["train"], "max_steps": max_steps}})
    with chdir(folder), patch.dict(os.environ, ENVIRONMENT):
        run_stages("download", "tokenize")
        # DVC then treats them as stages that it has run.
        assert dvc(["commit", "-q", "-f", "download", "tokenize"]) == 0
    return folder


def copy(project: Path, folder: Path) -> Path:
    """Copy the project without results of training."""
    unwanted = shutil.ignore_patterns("states", "model.safetensors")
    return shutil.copytree(project, folder, ignore=unwanted, dirs_exist_ok=True)


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project and return its result."""
    return subprocess.run(
        command, cwd=folder, env=environment_of(**environment), capture_output=True, text=True, check=False
    )


def environment_of(**changes: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, **ENVIRONMENT, **changes}


def run_killed(folder: Path, command: tuple[str, ...], number: int, random: Random) -> int:
    """Start a command, wait until its training advances, and some time later signal the command alone.

    Gives the training's last step on disk when everything has ended, or −1 if the command ended by itself.
    """
    states = folder / ".slm/checkpoints"
    before = last_step(states)
    process = subprocess.Popen(
        command, cwd=folder, env=environment_of(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and last_step(states) == before:
        time.sleep(0.005)
    below = descendants(process.pid)
    time.sleep(random.uniform(0, 0.5))
    if process.poll() is not None:
        return -1
    process.send_signal(number)
    process.wait()
    psutil.wait_procs(below, timeout=30)
    assert not [child for child in below if child.is_running()], "an orphan is still training"
    return last_step(states)


def descendants(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def last_step(states: Path) -> int:
    """Return the step of the newest checkpoint of any run."""
    return max((int(path.name[:10]) for path in states.glob("*/*.safetensors")), default=0)


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each output of training."""
    names = ["models/config.json", "models/model.safetensors"]
    names += [f"reports/{name}" for name in ("train.csv", "val.csv", "train.json", "details/train.json")]
    return {name: sha256((folder / name).read_bytes()).hexdigest() for name in names}
