"""What all tests run with."""

import os
import signal

import pytest

# One thread for all: tests are small, and threads that wait for each other are slow on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported

# A shell that starts pytest in the background has it ignore SIGINT, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The longest first, so that neither of two processes ends with a long one while the other has nothing to do.
LONGEST = ("sharing", "resume", "pipeline", "distributed", "dependencies", "recipes")
LONGEST += ("cache_links", "undeclared", "bad_inputs", "sft", "walkthrough", "stage")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest before the others."""
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONGEST)
