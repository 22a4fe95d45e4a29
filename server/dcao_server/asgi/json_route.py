"""A FastAPI route whose JSON is read by pydantic's parser instead of Python's.

Python's takes NaN, Infinity and lone surrogates (`"\\ud800"`), which no JSON answer and no store can hold afterwards.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json


class JsonRequest(Request):
    """A request."""

    async def json(self) -> Any:
        """The body's document.

        Raises:
            json.JSONDecodeError: there is none, which FastAPI reports as such.
        """
        body = await self.body()
        try:
            return from_json(body, allow_inf_nan=False, cache_strings=False)
        except ValueError as error:
            raise json.JSONDecodeError("expected a JSON document", "", 0) from error


class JsonRoute(APIRoute):
    """Set as a router's `route_class`."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """FastAPI's, with our request."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return strict
