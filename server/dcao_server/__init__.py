"""DCAO's controller: observation in, decision out, and the history of every run."""

from importlib.metadata import version
from typing import Any


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("dcao")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
