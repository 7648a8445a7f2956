"""Small language models: a pipeline from a corpus to a trained model, and its use.

from slm import load
generator = load("models")
print(generator.generate("Once upon a time"))
"""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """Import `load` on first use: it imports torch, which most users of this package do without."""
    if name == "load":
        return import_module("slm.inference").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
