"""Show the progress of long tasks: a bar in a terminal, otherwise a line every few seconds.

`SLM_PROGRESS` selects the display: `bar`, `lines`, `off` or `auto` (default): a bar if stderr is a terminal.
"""

import os
import sys
import time
from contextlib import suppress

from tqdm import tqdm

from slm.core.errors import UserError

SECONDS_BETWEEN_LINES = 10.0
CHOICES = ("auto", "bar", "lines", "off")


class Progress:
    """A counter from `done` to `total` units that shows units per second, the time left and a note.

    >>> with Progress("training", total=1000, unit="tok") as progress:
    ...     progress.advance(250, "loss 2.31")
    """

    def __init__(self, task: str, total: int | None, unit: str, done: int = 0):
        mode = os.environ.get("SLM_PROGRESS", "auto")
        if mode not in CHOICES:
            raise UserError(f"SLM_PROGRESS: must be one of {', '.join(CHOICES)}, got {mode!r}")
        if mode == "auto":
            mode = "bar" if sys.stderr.isatty() else "lines"
        self.task, self.total, self.unit = task, total, unit
        self.done = self._initial = done
        self._lines = mode == "lines"
        self._start = self._last_line_time = time.monotonic()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=task,
            unit=unit,
            unit_scale=True,
            disable=mode != "bar",
            dynamic_ncols=True,
        )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._bar.close()
        if self._lines and self.done:
            self._print_line("stopped" if error else "done", last=True)

    def advance(self, units: int, note: str = "") -> None:
        """Count `units` more. `note`, for example the loss, is shown beside the numbers."""
        self.done += units
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(units)
        if self._lines and time.monotonic() - self._last_line_time >= SECONDS_BETWEEN_LINES:
            self._print_line(note)

    def _print_line(self, note: str, last: bool = False) -> None:
        now = self._last_line_time = time.monotonic()
        rate = (self.done - self._initial) / max(now - self._start, 1e-9)
        parts = [f"{self.task}: {self.done:,}"]
        if self.total:
            parts[0] += f" of {self.total:,} {self.unit} ({self.done / self.total:.0%})"
        else:
            parts[0] += f" {self.unit}"
        parts.append(f"{rate:,.0f} {self.unit}/s")
        if self.total and self.done < self.total and not last:
            seconds = tqdm.format_interval((self.total - self.done) / rate) if rate else "?"
            parts.append(f"{seconds} left")
        else:
            parts.append(tqdm.format_interval(now - self._start))
        # A closed terminal must not stop the task.
        with suppress(OSError):
            print(", ".join([*parts, note] if note else parts), file=sys.stderr, flush=True)
