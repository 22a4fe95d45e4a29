"""A message in a JSON body, or the problem document that says why there is none."""

from typing import TypeVar

from pydantic import ValidationError

from dcao_proto import ProblemError, ProblemKind
from dcao_proto.message import Message
from dcao_proto.problem import field_errors

T = TypeVar("T", bound=Message)


def parse(message: type[T], body: bytes, place: tuple[str | int, ...] = ()) -> T:
    """The message in a JSON body, of which the caller has bounded the size and the number of values.

    Args:
        message: its class.
        body: JSON.
        place: where in the request's body this one stands.

    Raises:
        ProblemError: malformed, if it is no JSON; invalid, if it does not fit, with place, text and kind of each error
            but never the input, which may hold a NaN or a secret.
    """
    try:
        return message.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
    if any(e["type"] == "json_invalid" for e in found):
        raise ProblemError(ProblemKind.MALFORMED, "expected a JSON document as body, got something else")
    raise ProblemError(
        ProblemKind.INVALID,
        f"expected a {message.__name__} (see /openapi.json), got {len(found)} fields that do not fit",
        errors=field_errors(found, ("body", *place)),
    )
