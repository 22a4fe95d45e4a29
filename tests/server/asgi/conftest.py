"""The controller's own logging, read back and put away again."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from dcao_server.logging import HANDLER, configure_logging

Lines = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def logs() -> Iterator[Lines]:
    """What was logged by a logger of that name, as JSON objects."""
    root = logging.getLogger()
    level = root.level
    stream = io.StringIO()
    configure_logging(stream=stream)

    def lines(name: str) -> list[dict[str, Any]]:
        written = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [line for line in written if line["logger"] == name]

    yield lines
    structlog.reset_defaults()
    for handler in [handler for handler in root.handlers if handler.name == HANDLER]:
        root.removeHandler(handler)
    root.setLevel(level)
