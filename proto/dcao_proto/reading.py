"""Reading what a controller answers: tolerant of fields that a newer one added, bounded in work, silent about input.

Requests are closed (a mistyped field must be found); answers are open (a worker of last year must get on with the
controller of today). Whatever an unknown field means, the fields that are known must be an answer by themselves.
"""

from functools import lru_cache
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import from_json

from dcao_proto.message import Message

MAX_ANSWER = 256 * 1024  # bytes: four times the longest state token
MAX_VALUES = 4096  # commas and opening brackets: a decision has some 50, with the most groups some 1,000

M = TypeVar("M", bound=Message)


class UnreadableAnswerError(ValueError):
    """An answer that is not the message expected. What it held is not quoted: it may be large, or a secret."""


def read_answer(kind: type[M], body: bytes, *, max_bytes: int = MAX_ANSWER, max_values: int = MAX_VALUES) -> M:
    """The message in an answer; fields that this version does not know are left out.

    Args:
        kind: which message is expected.
        body: JSON.
        max_bytes: longest body that is looked at.
        max_values: most values that are; with `max_bytes` it bounds the time to a few milliseconds.

    Raises:
        UnreadableAnswerError: it is too long, not JSON, or not this message.
    """
    name = kind.__name__
    if len(body) > max_bytes:
        raise UnreadableAnswerError(f"expected a {name} of at most {max_bytes} bytes, got {len(body)}")
    if body.count(b",") + body.count(b"[") + body.count(b"{") > max_values:
        raise UnreadableAnswerError(f"expected a {name} of at most {max_values} values, got more")
    try:
        return _read(kind, body)
    except ValidationError as error:
        # Never the error's own text: describing thousands of faults takes seconds.
        raise UnreadableAnswerError(f"expected a {name}, got what is none ({error.error_count()} faults)") from None
    except (ValueError, RecursionError):
        raise UnreadableAnswerError(f"expected a {name}, got no JSON, or one with numbers that are none") from None


def _read(kind: type[M], body: bytes) -> M:
    try:
        return kind.model_validate_json(body)  # no unknown fields, as a rule
    except ValidationError:
        return kind.model_validate(_known(kind, from_json(body, allow_inf_nan=False)))


def _known(kind: type[Message], document: Any) -> Any:
    """The document without the fields that the message, and those within it, do not have."""
    if isinstance(document, list):
        return [_known(kind, part) for part in document]
    if not isinstance(document, dict):
        return document
    fields = _fields(kind)
    kept = {name: value for name, value in document.items() if name in fields}
    for name, value in kept.items():
        inner = fields[name]
        if inner is not None:
            kept[name] = _known(inner, value)
    return kept


@lru_cache(maxsize=64)
def _fields(kind: type[Message]) -> dict[str, type[Message] | None]:
    """The fields of a message, each with the message that it holds, one or several of, if it does."""
    return {name: _message_in(field.annotation) for name, field in kind.model_fields.items()}


def _message_in(annotation: Any) -> type[Message] | None:
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return annotation
    return next((found for part in get_args(annotation) if (found := _message_in(part)) is not None), None)
