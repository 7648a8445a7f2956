"""Small language models, from text to stories: corpus → tokens → model → training → text.

from slm import load
writer = load("models")
print(writer.generate("Once upon a time"))
"""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """`load`, which takes torch: it is imported when it is asked for, as not all that uses slm needs it."""
    if name == "load":
        return import_module("slm.inference").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
