"""Checkpoints: all that training needs to resume, on disk, outside of what DVC tracks.

`.slm/checkpoints/` has a folder for each run. Its name is a fingerprint of all that can change the result, in
two parts: runs that share the first are identical until one of them stops or enters its decay phase. In it,
`<step>-<digest>.safetensors` is the checkpoint after that many steps; the digest of its bytes detects corrupt
files. Deleting the folder, or SLM_NO_RESUME=1, starts from scratch.
"""

import json
import os
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple

import safetensors.torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from torch import Tensor

from slm.core.errors import UserError

KEPT_STATES = 2  # of a training at work: if the last is torn, there is another
KEPT_TRAININGS = 5
SECONDS = 20.0  # between two states, or more
SHARE = 0.01  # of the time may go into saving
WAIT_SECONDS = 5.0  # for a training that is about to stop
NAME = re.compile(r"(\d{10})-([0-9a-f]{16})\.safetensors")


class State(NamedTuple):
    """What is known after so many steps: numbers in `tensors`, all else in `values`."""

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]


class States:
    """The states of one training, which no other process may use meanwhile.

    `inputs` is all that the result depends on; `until_fork` is the part of it that the result of the first
    `fork` steps depends on. Raises UserError if another process works on this training.
    """

    def __init__(self, root: Path, inputs: Any, until_fork: Any, fork: int):
        self.fork = fork
        self.root, self.folder = root, root / f"{_fingerprint(until_fork)}-{_fingerprint(inputs)}"
        self._lock = _lock(self.folder)
        self._seconds = _seconds_between()
        self._next_save = time.monotonic() + self._seconds

    def __enter__(self) -> "States":
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=WAIT_SECONDS)
        except Timeout:
            line = "another process is training with the same params: wait for it, or stop it"
            raise UserError(f"{line} ({self.folder})") from None
        if _wants_fresh():
            _remove(self._own())
        _remove(self.folder.glob("*.tmp"))  # of a process that was killed
        self._prune_others()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def newest(self) -> State | None:
        """The last state to go on from that is whole; a line for each that is not."""
        own = self._own()
        related = [] if _wants_fresh() else self._related()
        for path in sorted([*own, *related], key=lambda path: (_step(path), path in own), reverse=True):
            try:
                return self._read(path)
            except ValueError as error:
                print(f"training: {path} is not used: {error}", file=sys.stderr)
                if path in own:
                    path.unlink()
            except FileNotFoundError:  # another training has just dropped it
                continue
        return None

    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() >= self._next_save

    def save(self, state: State) -> None:
        """Write a state, whole or not at all, and drop those that are not needed any more."""
        start = time.monotonic()
        notes = {"training": self.folder.name, "fork": self.fork, "values": state.values}
        temporary = self.folder / ".state.tmp"
        try:
            safetensors.torch.save_file(state.tensors, temporary, {"state": json.dumps(notes)})
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # or the new name might reach the disk before the bytes
            temporary.replace(self.folder / f"{state.step:010}-{_digest_of(temporary)}.safetensors")
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise UserError(f"{self.folder}: the state could not be written: {error}") from error
        self.keep(KEPT_STATES)
        seconds = time.monotonic() - start
        self._next_save = time.monotonic() + (max(self._seconds, seconds / SHARE) if self._seconds else 0.0)

    def keep(self, n_states: int) -> None:
        """Drop all but the last states, and the one from which a longer training could go on."""
        before_fork = [path for path in self._own() if _step(path) <= self.fork]
        _remove(set(self._own()[:-n_states]) - set(before_fork[-1:]))

    def _own(self) -> list[Path]:
        """This training's states, the oldest first."""
        return sorted(path for path in self.folder.glob("*.safetensors") if NAME.fullmatch(path.name))

    def _related(self) -> list[Path]:
        """States of other trainings that went the same way so far."""
        paths = self.root.glob(f"{self.folder.name[:16]}-*/*.safetensors")
        named = [path for path in paths if path.parent != self.folder and NAME.fullmatch(path.name)]
        return [path for path in named if _step(path) <= self.fork]

    def _read(self, path: Path) -> State:
        """Raises ValueError if the file is torn, or the state is not one to go on from."""
        if _digest_of(path) != path.stem.partition("-")[2]:
            raise ValueError("it is torn, its bytes are not those that were written")
        try:
            with safe_open(path, framework="pt") as file:
                notes = json.loads(file.metadata()["state"])
        except (SafetensorError, TypeError, KeyError) as error:
            raise ValueError("it is not a state of a training") from error
        if notes["training"] != path.parent.name:
            raise ValueError(f"it belongs to another training, {notes['training']}")
        if path.parent != self.folder and _step(path) > notes["fork"]:
            raise ValueError(f"the learning rate was falling since step {notes['fork']:,}")
        return State(_step(path), safetensors.torch.load_file(path), notes["values"])

    def _prune_others(self) -> None:
        """Drop the states of all but the last few other trainings, if no process works on them."""
        others = [path for path in self.root.iterdir() if path.is_dir() and path != self.folder]
        for folder in sorted(others, key=_last_written)[:-KEPT_TRAININGS]:
            with suppress(Timeout), _lock(folder).acquire(timeout=0):
                rmtree(folder, ignore_errors=True)


def _fingerprint(inputs: Any) -> str:
    return sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()[:16]


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / "lock")


def _step(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _last_written(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.glob("*.safetensors")), default=0.0)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _wants_fresh() -> bool:
    return os.environ.get("SLM_NO_RESUME", "0") not in {"", "0"}


def _seconds_between() -> float:
    """SLM_CHECKPOINT_INTERVAL, or the default."""
    text = os.environ.get("SLM_CHECKPOINT_INTERVAL", str(SECONDS))
    try:
        seconds = float(text)
        if 0 <= seconds < float("inf"):
            return seconds
    except ValueError:
        pass
    raise UserError(f"SLM_CHECKPOINT_INTERVAL: must be a number of seconds, 0 or more, got {text!r}")
