"""What to install when a name is used whose framework is not there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def missing_extra(framework: str, name: str) -> Iterator[None]:
    """Raises ModuleNotFoundError with the extra to install, where ``name`` cannot be had for want of ``framework``."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != framework:
            raise
        advice = f"{name} needs {framework}, which is not installed: pip install 'dcao[{framework}]'"
        raise ModuleNotFoundError(advice, name=error.name) from error
