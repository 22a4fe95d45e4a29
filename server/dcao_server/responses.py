"""Answers made of messages, and their entry in the OpenAPI document."""

import json
from typing import Any

from fastapi import Path, Query
from starlette.responses import Response

from dcao_proto import ProblemDetails, ProblemKind
from dcao_proto.message import NAME_PATTERN, Message
from dcao_proto.problem import PROBLEM_MEDIA_TYPE

JSON = "application/json"
PAGE_BYTES = 4 * 1024 * 1024
"""About what a page holds at most, however many elements were asked for: its cursor leads to the rest. A record or a
run has a kilobyte or two as a rule, and a hundred at most."""


def answer(message: Message, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The message as JSON, not validated again: it was made by us."""
    return Response(message.wire_json(), status, headers, JSON)


def page_json(name: str, parts: list[bytes], cursor: str | None) -> bytes:
    """A page of messages as JSON, of which each was written by itself: all at once would hold the event loop.

    Args:
        name: of the field that holds them.
        parts: each message's JSON.
        cursor: `next_cursor`, None on the last page.
    """
    more = b"" if cursor is None else b',"next_cursor":' + json.dumps(cursor).encode()
    return b'{"' + name.encode() + b'":[' + b",".join(parts) + b"]" + more + b"}"


def problems(*kinds: ProblemKind) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: those that every route has, and these kinds by status."""
    every = (
        ProblemKind.MALFORMED,
        ProblemKind.UNAUTHENTICATED,
        ProblemKind.FORBIDDEN,
        ProblemKind.INVALID,
        ProblemKind.RATE_LIMITED,
        ProblemKind.INTERNAL,
        ProblemKind.STORE_UNAVAILABLE,
    )
    by_status: dict[int | str, list[str]] = {}
    for kind in (*every, *kinds):
        titles = by_status.setdefault(kind.status, [])
        if kind.title not in titles:
            titles.append(kind.title)
    return {
        status: {
            "description": ", or: ".join(titles),
            "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}}},
        }
        for status, titles in sorted(by_status.items(), key=lambda item: int(item[0]))
    }


def name_path(description: str) -> Any:
    """A path parameter that is a name."""
    return Path(pattern=NAME_PATTERN, description=description)


def count_query(most: int, description: str) -> Any:
    """A query parameter between 1 and `most`."""
    return Query(ge=1, le=most, description=description)
