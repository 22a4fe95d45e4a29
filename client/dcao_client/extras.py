"""What to install when a name is used whose packages are not there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def missing_extra(package: str, name: str, *, extra: str | None = None) -> Iterator[None]:
    """Raises ModuleNotFoundError with the extra to install, where ``name`` cannot be had for want of ``package``.

    Args:
        package: what is imported.
        name: what was asked for.
        extra: what brings it; its own name if absent.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        advice = f"{name} needs {package}, which is not installed: pip install 'dcao[{extra or package}]'"
        raise ModuleNotFoundError(advice, name=error.name) from error
