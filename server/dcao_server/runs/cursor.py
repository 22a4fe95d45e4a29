"""Cursors of listings: opaque to clients, a place in the order to us."""

import base64
import binascii
import json
import math
import re

from pydantic_core import from_json

from dcao_proto import ProblemError, ProblemKind
from dcao_proto.message import NAME_PATTERN

_is_name = re.compile(NAME_PATTERN).fullmatch


def encode(created_at: float, name: str) -> str:
    """The cursor after a run."""
    return base64.urlsafe_b64encode(json.dumps([created_at, name]).encode()).decode().rstrip("=")


def decode(cursor: str) -> tuple[float, str]:
    """The place that a cursor names.

    Raises:
        ProblemError: invalid; not a cursor of ours.
    """
    try:
        created_at, name = from_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, binascii.Error, RecursionError) as error:
        raise _invalid() from error
    if not isinstance(created_at, float) or not math.isfinite(created_at):
        raise _invalid()
    if not isinstance(name, str) or not _is_name(name):
        raise _invalid()
    return created_at, name


def check_name(cursor: str) -> str:
    """A cursor that is the name that came last.

    Raises:
        ProblemError: invalid; no name.
    """
    if not _is_name(cursor):
        raise _invalid()
    return cursor


def _invalid() -> ProblemError:
    return ProblemError(
        ProblemKind.INVALID, "expected `cursor` as a page's next_cursor gave it; leave it out to start from the top"
    )
