"""Errors that the user can fix, and how a program reports them."""

import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """Something the user can mend; its text is the one line they see."""


class Interrupted(KeyboardInterrupt):
    """A run stopped early on request. The message says why and what was kept."""


def run_command(main: Callable[[], None]) -> None:
    """Run a program: what the user can mend ends in a line and status 1, an interrupt in status 130."""
    try:
        main()
    except UserError as error:
        _fail(str(error))
    except OSError as error:  # from anywhere: a file may have become unreadable
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _fail("out of memory: a smaller model, block_size or batch_size takes less")
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        sys.exit(130)  # never 0: DVC would record the half-done outputs


def _fail(lines: str) -> NoReturn:
    print(f"error: {lines}".replace("\n", "\nerror: "), file=sys.stderr)
    sys.exit(1)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an error is Python's or one of torch's, which is not imported here."""
    lines = ("can't allocate memory", "could not create a primitive")  # the second is oneDNN's
    is_torchs = type(error).__name__ == "OutOfMemoryError" or any(line in str(error) for line in lines)
    return isinstance(error, MemoryError) or is_torchs
