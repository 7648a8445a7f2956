"""Errors that the user can fix, and how a program reports them."""

import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """An error that the user can fix. Its message is printed without a traceback."""


class Interrupted(KeyboardInterrupt):
    """A run stopped early on request. The message says why and what was kept."""


def run_command(main: Callable[[], None]) -> None:
    """Run a program. Exit with one line and status 1 after a UserError, with 130 after an interrupt."""
    try:
        main()
    except UserError as error:
        _exit_with_error(str(error))
    # Any read can fail, for example if a file has become unreadable.
    except OSError as error:
        _exit_with_error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _exit_with_error("out of memory: reduce the model, block_size or batch_size")
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        # Not 0, because DVC would then record incomplete outputs.
        sys.exit(130)


def _exit_with_error(message: str) -> NoReturn:
    print(f"error: {message}".replace("\n", "\nerror: "), file=sys.stderr)
    sys.exit(1)


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that memory ran out, in Python or in torch, not imported here."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    # Messages of torch's CPU allocator and of oneDNN.
    messages = ("can't allocate memory", "could not create a primitive")
    return any(message in str(error) for message in messages)
