"""Structured logs on standard error: one JSON object a line, with the request's ID, without secrets."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog

from dcao_server.asgi.context import current_request_id

_SECRET_NAMES = frozenset({"authorization", "api_key", "password", "secret", "token", "state"})
_API_KEY = re.compile(r"dcao(?:_|%5[fF])([a-z0-9]{4,32})(?:_|%5[fF])[0-9A-Za-z]+")
_URL_PASSWORD = re.compile(r"://([^:/@\s]*):[^@/\s]+@")
_HIDDEN = "…"
HANDLER = "dcao"
"""Name of our handler: configured again, it is replaced, and nobody else's is touched."""
_QUIET = {"uvicorn.access": logging.CRITICAL, "uvicorn.error": logging.WARNING, "asyncio": logging.WARNING}


def hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog processor: no API key, no password of a URL, no field that is named for a secret leaves the process."""
    for name, value in event.items():
        if name in _SECRET_NAMES:
            event[name] = _HIDDEN
        elif isinstance(value, str):
            event[name] = without_secrets(value)
    return event


def without_secrets(text: str) -> str:
    """The text with API keys cut to their ids and passwords in URLs removed."""
    return _URL_PASSWORD.sub(rf"://\1:{_HIDDEN}@", _API_KEY.sub(rf"dcao_\1_{_HIDDEN}", text))


def _add_request_id(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    request_id = current_request_id()
    if request_id and "request" not in event:
        event["request"] = request_id
    return event


def configure_logging(
    level: str = "info", log_format: Literal["auto", "json", "console"] = "json", stream: TextIO | None = None
) -> None:
    """Sends structlog and the standard library's loggers (uvicorn's, redis's) the same way.

    Args:
        level: least level that is written.
        log_format: `json` for machines, `console` for people, `auto` for whoever reads standard error.
        stream: where to; standard error if None.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
    ]
    render: list[structlog.typing.Processor]
    if not for_people(log_format):
        render = [structlog.processors.format_exc_info, hide_secrets, structlog.processors.JSONRenderer()]
    else:
        # A plain trace: the pretty one shows local variables, and there are keys among them.
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        render = [hide_secrets, console]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _drop_colour, *render],
        )
    )
    handler.set_name(HANDLER)
    root = logging.getLogger()
    for old in [h for h in root.handlers if h.name == HANDLER]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name, least in _QUIET.items():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(least, root.level))


def for_people(log_format: Literal["auto", "json", "console"]) -> bool:
    """Whether a person reads what is logged."""
    return log_format == "console" or (log_format == "auto" and sys.stderr.isatty())


def _drop_colour(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """uvicorn repeats each message with terminal colours in it."""
    event.pop("color_message", None)
    return event
