"""The opaque state token: the run's specification and the policy's state in one string that a client echoes.

`dcao1.<spec>.<state>.<crc>`: base64url of the two JSON documents and a CRC-32 over both. With it any replica can
decide without reading anything, and so can the client itself. The checksum finds accidents; a client that forges a
token changes its own run only, and the store keeps the specification that was declared.

Both sides are upgraded at different times. The specification's segment is the run's identity, so a field that was added
later is left out of it while it is at its default: old and new give the same segment for the same run. A field of the
state that this side does not know is what a newer law remembers: it is left out when read, and the law that is here
decides from the rest. An unknown field of the specification is refused, because it changes what the run means.
"""

import base64
import binascii
import json
import zlib
from functools import lru_cache
from itertools import compress
from operator import is_not
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from dcao_proto.hyperparameters import Bounds, Hyperparameters
from dcao_proto.message import Message
from dcao_proto.policy.state import PolicyState
from dcao_proto.reading import UnreadableAnswerError, read_answer
from dcao_proto.run import PolicyChoice, RunSpec

PREFIX = "dcao1"


class InvalidTokenError(ValueError):
    """A state token that no controller of this protocol version has issued."""


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def encode_segment(document: bytes) -> bytes:
    """Base64url without padding; what base64.urlsafe_b64encode does, in two thirds of its time."""
    return binascii.b2a_base64(document, newline=False).translate(_URL_SAFE).rstrip(b"=")


def _decode_segment(segment: str) -> bytes:
    try:
        return base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidTokenError("the state token is not base64url; echo it as it was received") from error


def _checksum(spec_segment: str, state_segment: bytes) -> str:
    return f"{zlib.crc32(state_segment, _begun(spec_segment)):08x}"


@lru_cache(maxsize=256)
def _begun(spec_segment: str) -> int:
    """The checksum up to the state, which is the same for all of a run's decisions."""
    return zlib.crc32(f"{spec_segment}.".encode("ascii"))


def join(spec_segment: str, state: PolicyState) -> str:
    """The token of a state under an encoded specification."""
    state_segment = encode_segment(_document(state))
    checksum = _checksum(spec_segment, state_segment)
    return f"{PREFIX}.{spec_segment}.{state_segment.decode('ascii')}.{checksum}"


def _document(state: PolicyState) -> bytes:
    """The state as JSON, without what is as at the start; pydantic's `exclude_defaults` takes four times as long."""
    fields = state.__dict__
    return to_json(dict(compress(fields.items(), map(is_not, fields.values(), _START))))


_START = tuple(PolicyState().__dict__.values())
"""In the order of the fields, as in every state."""


def split(token: str) -> tuple[str, str]:
    """The two segments of a token, checksum verified.

    Raises:
        InvalidTokenError: not a token of this protocol version, or damaged.
    """
    parts = token.split(".")
    if len(parts) != 4 or parts[0] != PREFIX:
        raise InvalidTokenError(
            f"expected a state token that starts with '{PREFIX}.'; echo the last decision's state, or leave it out"
        )
    _, spec_segment, state_segment, checksum = parts
    if not token.isascii() or checksum != _checksum(spec_segment, state_segment.encode("ascii")):
        raise InvalidTokenError("the state token is damaged (checksum differs); echo it as it was received")
    return spec_segment, state_segment


def decode_state(segment: str) -> PolicyState:
    """The state in a segment.

    Raises:
        InvalidTokenError: it is not a policy state.
    """
    try:
        return read_answer(PolicyState, _decode_segment(segment))
    except UnreadableAnswerError as error:
        raise InvalidTokenError(f"the state token holds no policy state: {error}") from error


def encode_spec(spec: RunSpec) -> str:
    """The specification as a segment; equal specifications give equal segments."""
    document = json.dumps(_identity(spec), sort_keys=True, separators=(",", ":"))
    return encode_segment(document.encode()).decode("ascii")


# Fields of the first protocol version are always written; those that came later only where they say something.
FIRST_FIELDS: dict[type[Message], frozenset[str]] = {
    RunSpec: frozenset(
        (
            *("optimizer", "base", "policy", "bounds", "probe_interval", "labels"),
            *("workers", "aggregate", "quorum", "quorum_seconds"),
        )
    ),
    PolicyChoice: frozenset(("name", "params")),
    Hyperparameters: frozenset(("lr", "momentum", "weight_decay")),
    Bounds: frozenset(("lr", "momentum", "weight_decay", "max_momentum")),
}


def _identity(message: Message) -> dict[str, Any]:
    """The JSON object of a message, without later fields that are at their defaults."""
    whole, first = message.model_dump(mode="json"), FIRST_FIELDS[type(message)]
    kept = {}
    for name, field in type(message).model_fields.items():
        value = getattr(message, name)
        if name in first or value != field.get_default(call_default_factory=True):
            kept[name] = _identity(value) if type(value) in FIRST_FIELDS else whole[name]
    return kept


def decode_spec(segment: str) -> RunSpec:
    """The specification in a segment.

    Raises:
        InvalidTokenError: it is not a run specification.
    """
    try:
        return RunSpec.model_validate_json(_decode_segment(segment))
    except ValidationError as error:
        raise InvalidTokenError(f"the state token holds no run specification ({error.error_count()} errors)") from error
