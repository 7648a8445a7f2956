"""Why a training should stop before its end: a signal, or the death of the program that started it."""

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

    Killing dvc leaves its stages running, and so does killing torchrun. A training that went on by itself
    would hold its state, and would write outputs that no one waits for.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._starter = _starter()
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
            if self._starter is not None and not _is_alive(self._starter):
                return "because dvc or torchrun, which had started it, is gone"
        return None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
        self.__exit__()


def _starter() -> psutil.Process | None:
    """The dvc or torchrun that started this stage.

    The nearest process above that has no DVC_STAGE in its environment is dvc: between the two there may be a
    shell. Nothing is between torchrun and its processes.
    """
    with suppress(psutil.Error):
        if "DVC_STAGE" in os.environ:
            for process in psutil.Process().parents():
                if "DVC_STAGE" not in process.environ():
                    return process
        elif "TORCHELASTIC_RUN_ID" in os.environ:
            return psutil.Process().parent()
    return None


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
