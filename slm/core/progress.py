"""Progress of long work: a bar in a terminal, a plain line now and then elsewhere.

`SLM_PROGRESS` chooses: `bar`, `lines`, `off`, or `auto` (the default) by whether stderr is a terminal.
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
    """Counts from `done` up to `total` units and shows how many a second, the time left and a note.

    >>> with Progress("training", total=1000, unit="tok") as progress:
    ...     progress.advance(250, "loss 2.31")
    """

    def __init__(self, what: str, total: int | None, unit: str, done: int = 0):
        mode = os.environ.get("SLM_PROGRESS", "auto")
        if mode not in CHOICES:
            raise UserError(f"SLM_PROGRESS: must be one of {', '.join(CHOICES)}, got {mode!r}")
        if mode == "auto":
            mode = "bar" if sys.stderr.isatty() else "lines"
        self.what, self.total, self.unit = what, total, unit
        self.done = self._done_before = done
        self._lines = mode == "lines"
        self._start = self._last_line = time.monotonic()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=what,
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
        """Count `units` more; `note` (the loss, say) is shown beside the numbers."""
        self.done += units
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(units)
        if self._lines and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._print_line(note)

    def _print_line(self, note: str, last: bool = False) -> None:
        now = self._last_line = time.monotonic()
        rate = (self.done - self._done_before) / max(now - self._start, 1e-9)
        parts = [f"{self.what}: {self.done:,}"]
        if self.total:
            parts[0] += f" of {self.total:,} {self.unit} ({self.done / self.total:.0%})"
        else:
            parts[0] += f" {self.unit}"
        parts.append(f"{rate:,.0f} {self.unit}/s")
        if self.total and self.done < self.total and not last:
            left = tqdm.format_interval((self.total - self.done) / rate) if rate else "?"
            parts.append(f"{left} left")
        else:
            parts.append(tqdm.format_interval(now - self._start))
        with suppress(OSError):  # the terminal may be gone; the work goes on
            print(", ".join([*parts, note] if note else parts), file=sys.stderr, flush=True)
