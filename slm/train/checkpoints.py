"""Checkpoints, from which an interrupted run resumes and ends with the same bytes.

`.slm/checkpoints/` has a folder per run, named by a fingerprint of everything that can change the result. The
fingerprint has two parts: runs with the same first part are identical until one of them stops or enters its
decay phase, so a longer run resumes from a shorter one. A checkpoint is `<step>-<digest>.safetensors`; the
digest of its bytes detects corrupt files. Deleting the folder, or SLM_NO_RESUME=1, starts from scratch.

DVC does not track checkpoints. Only rank 0 reads and writes them.
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

from slm.core.errors import Interrupted, UserError
from slm.model.device import device_properties
from slm.train.distributed import StopSignal, all_gather, any_rank, broadcast_tensors, log_rank0, rank
from slm.train.params import DECAY_KEYS, decay_start
from slm.train.state import TrainState

# If the last checkpoint of a running training is corrupt, there is another.
KEPT_CHECKPOINTS = 2
KEPT_RUNS = 5
# Seconds between checkpoints, unless saving would take more than this fraction of the time.
INTERVAL = 20.0
MAX_SAVE_FRACTION = 0.01
# Seconds to wait for another process that is about to stop.
LOCK_TIMEOUT = 5.0
NAME = re.compile(r"(\d{10})-([0-9a-f]{16})\.safetensors")


class RunInputs(NamedTuple):
    """Folder of the checkpoints, and everything beside the device that results depend on, as plain values."""

    folder: Path
    inputs: dict[str, Any]


class Checkpoint(NamedTuple):
    """The state of a run after `step` steps."""

    step: int
    tensors: dict[str, Tensor]
    values: dict[str, Any]


class Checkpointer:
    """Context manager that loads and saves the state of a run on all ranks; without `run` it does neither.

    Raises UserError if another process trains the same run, or if ranks have different inputs.
    """

    def __init__(self, run: RunInputs | None, state: TrainState):
        self._state = state
        self._fork = decay_start(state.params)
        self._folder: CheckpointFolder | None = None
        self._is_enabled = run is not None
        self._saved_step = -1
        if run is None:
            return
        check_same_inputs(all_gather(run.inputs))
        ranks = all_gather({**device_properties(state.device), **state.resolved()})
        inputs = {**run.inputs, "ranks": ranks}
        # Params of the decay phase do not change the steps before it.
        ignored = DECAY_KEYS if self._fork else set()
        train = {key: value for key, value in inputs["params"]["train"].items() if key not in ignored}
        shared_inputs = {**inputs, "params": {**inputs["params"], "train": train}}
        if rank() == 0:
            self._folder = CheckpointFolder(run.folder, inputs, shared_inputs, self._fork)

    def __enter__(self) -> "Checkpointer":
        if self._folder:
            self._folder.lock()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._folder:
            # A finished run needs one checkpoint: a longer run may resume from it.
            if error is None:
                self._folder.prune(1)
            self._folder.unlock()

    def load_latest(self) -> None:
        """Restore the state from the newest checkpoint, if there is one."""
        if not self._is_enabled:
            return
        latest = self._folder.latest() if self._folder else None
        header = all_gather(latest and latest._replace(tensors={}))[0]
        if header:
            self._state.load_state_dict(broadcast_tensors(latest.tensors if latest else {}), header.values)
            log_rank0(f"resuming from step {header.step:,}/{self._state.params.max_steps:,}")
        self._saved_step = self._state.step

    def save_if_due(self, stop: StopSignal) -> None:
        """Save a checkpoint if one is due or a rank is asked to stop; then also raise Interrupted."""
        reason, step = stop.reason(), self._state.step
        is_stopping, is_due = any_rank(reason is not None, self._folder is not None and self._folder.is_due())
        # The decay start is where longer runs resume, the last step where finished ones do.
        is_due = is_due or is_stopping or step in {self._fork, self._state.params.max_steps}
        if self._is_enabled and is_due and step != self._saved_step and self._state.is_finite():
            checkpoint = Checkpoint(step, *self._state.state_dict())
            if self._folder:
                self._folder.save(checkpoint)
            self._saved_step = step
        if is_stopping:
            reason = next(filter(None, all_gather(reason)))
            saved = f"checkpoint saved at step {self._saved_step:,}" if self._is_enabled else "no checkpoint"
            raise Interrupted(f"interrupted ({reason}) at step {step:,}; {saved}")


def check_same_inputs(inputs: list[dict[str, Any]]) -> None:
    """Raise UserError if a rank has different params, files or libraries than rank 0."""
    for number, other in enumerate(inputs):
        for kind in [kind for kind in other if other[kind] != inputs[0][kind]]:
            values, expected = other[kind], inputs[0][kind]
            names = sorted(values.keys() | expected.keys())
            differing = [name for name in names if values.get(name) != expected.get(name)]
            raise UserError(f"rank {number}: {kind} differ from rank 0: {', '.join(differing)}")


class CheckpointFolder:
    """The checkpoints of one run on disk.

    `inputs` is everything that the result depends on, `shared_inputs` the part that matters for the first
    `fork` steps.
    """

    def __init__(self, root: Path, inputs: Any, shared_inputs: Any, fork: int):
        self.fork = fork
        self.root, self.path = root, root / f"{_fingerprint(shared_inputs)}-{_fingerprint(inputs)}"
        self._lock = _lock(self.path)
        self._interval = _interval()
        self._next_save = time.monotonic() + self._interval

    def lock(self) -> None:
        """Lock the folder and clean up. Raises UserError if another process trains the same run."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=LOCK_TIMEOUT)
        except Timeout:
            raise UserError(
                "another process is training with the same params: wait for it, or stop it "
                f"({self.path} is locked)"
            ) from None
        if _starts_from_scratch():
            _remove(self._own())
        # A killed process may have left a partial file.
        _remove(self.path.glob("*.tmp"))
        self._remove_old_runs()

    def unlock(self) -> None:
        """Release the lock."""
        self._lock.release()

    def latest(self) -> Checkpoint | None:
        """Read the newest valid checkpoint of this run, or of one that shares its first steps."""
        own = self._own()
        related = [] if _starts_from_scratch() else self._related()
        for path in sorted([*own, *related], key=lambda path: (_step(path), path in own), reverse=True):
            try:
                return self._read(path)
            except ValueError as error:
                print(f"training: ignoring checkpoint {path}: {error}", file=sys.stderr)
                if path in own:
                    path.unlink()
            # Another run may have removed it meanwhile.
            except FileNotFoundError:
                continue
        return None

    def is_due(self) -> bool:
        """Return whether it is time to save."""
        return time.monotonic() >= self._next_save

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint atomically and remove those no longer needed."""
        start = time.monotonic()
        metadata = {"run": self.path.name, "fork": self.fork, "values": checkpoint.values}
        temporary = self.path / ".checkpoint.tmp"
        try:
            safetensors.torch.save_file(checkpoint.tensors, temporary, {"state": json.dumps(metadata)})
            # Without fsync the new name might reach the disk before the bytes.
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(self.path / f"{checkpoint.step:010}-{_digest(temporary)}.safetensors")
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise UserError(f"{self.path}: the checkpoint could not be written: {error}") from error
        self.prune(KEPT_CHECKPOINTS)
        # SLM_CHECKPOINT_INTERVAL=0 saves at every step.
        seconds = time.monotonic() - start
        wait = max(self._interval, seconds / MAX_SAVE_FRACTION) if self._interval else 0.0
        self._next_save = time.monotonic() + wait

    def prune(self, n_kept: int) -> None:
        """Remove all but the last checkpoints and the last before the fork, where a longer run resumes."""
        before_fork = [path for path in self._own() if _step(path) <= self.fork]
        _remove(set(self._own()[:-n_kept]) - set(before_fork[-1:]))

    def _own(self) -> list[Path]:
        """Return this run's checkpoints, the oldest first."""
        return sorted(path for path in self.path.glob("*.safetensors") if NAME.fullmatch(path.name))

    def _related(self) -> list[Path]:
        """Return checkpoints of other runs whose steps so far are the same."""
        paths = self.root.glob(f"{self.path.name[:16]}-*/*.safetensors")
        others = [path for path in paths if path.parent != self.path and NAME.fullmatch(path.name)]
        return [path for path in others if _step(path) <= self.fork]

    def _read(self, path: Path) -> Checkpoint:
        """Read a checkpoint. Raises ValueError if it is corrupt or does not belong to this run."""
        if _digest(path) != path.stem.partition("-")[2]:
            raise ValueError("corrupt file (checksum mismatch)")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = json.loads(file.metadata()["state"])
        except (SafetensorError, TypeError, KeyError) as error:
            raise ValueError("not a checkpoint") from error
        if metadata["run"] != path.parent.name:
            raise ValueError(f"it belongs to another run, {metadata['run']}")
        if path.parent != self.path and _step(path) > metadata["fork"]:
            raise ValueError(f"it is past the start of its run's decay phase (step {metadata['fork']:,})")
        return Checkpoint(_step(path), safetensors.torch.load_file(path), metadata["values"])

    def _remove_old_runs(self) -> None:
        """Remove the folders of all but the last few other runs, except those in use."""
        others = [path for path in self.root.iterdir() if path.is_dir() and path != self.path]
        for folder in sorted(others, key=_modified)[:-KEPT_RUNS]:
            with suppress(Timeout), _lock(folder).acquire(timeout=0):
                rmtree(folder, ignore_errors=True)


def _fingerprint(inputs: Any) -> str:
    return sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()[:16]


def _lock(folder: Path) -> FileLock:
    return FileLock(folder / "lock")


def _step(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _modified(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.glob("*.safetensors")), default=0.0)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _starts_from_scratch() -> bool:
    return os.environ.get("SLM_NO_RESUME", "0") not in {"", "0"}


def _interval() -> float:
    """Return the seconds between checkpoints. Raises UserError for a wrong SLM_CHECKPOINT_INTERVAL."""
    text = os.environ.get("SLM_CHECKPOINT_INTERVAL", str(INTERVAL))
    try:
        seconds = float(text)
        if 0 <= seconds < float("inf"):
            return seconds
    except ValueError:
        pass
    raise UserError(f"SLM_CHECKPOINT_INTERVAL: must be a number of seconds, 0 or more, got {text!r}")
