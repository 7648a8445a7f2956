"""Why a training should stop before its end: a signal, or the death of the dvc that started it."""

import os
import signal
import time
from contextlib import suppress
from types import FrameType

import psutil

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
SECONDS_BETWEEN_LOOKS = 1.0


class Stopping:
    """Within this context a first signal is noted, so that the step can end; a second one acts at once.

    Killing dvc leaves its stages running. A training that went on by itself would hold its state, and would
    write outputs that no one waits for.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._dvc = _dvc_above()
        self._next_look = 0.0

    def __enter__(self) -> "Stopping":
        ignored = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN]  # nohup, &
        self._before = {number: signal.getsignal(number) for number in SIGNALS if number not in ignored}
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def reason(self) -> str | None:
        """Why to stop, if there is a reason."""
        if self._signal is not None:
            return f"by {signal.Signals(self._signal).name}"
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
            if self._dvc is not None and not _is_alive(self._dvc):
                return "because dvc, which had started it, is gone"
        return None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self.__exit__()


def _dvc_above() -> psutil.Process | None:
    """The dvc that started this stage: the nearest process above that has no DVC_STAGE in its environment.

    Between the two there may be a shell.
    """
    if "DVC_STAGE" not in os.environ:
        return None
    with suppress(psutil.Error):
        for process in psutil.Process().parents():
            if "DVC_STAGE" not in process.environ():
                return process
    return None


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
