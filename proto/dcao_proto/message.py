"""What every message on the wire has in common, and the number types its fields are made of.

Messages are frozen, refuse unknown fields and never hold a NaN or an infinity: a run that diverged says so with a
`status`, not with a number that JSON cannot carry.
"""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class Message(BaseModel):
    """Base of all wire messages: immutable, closed, finite.

    Raises:
        pydantic.ValidationError: a field is missing, unknown, of the wrong type, out of range or not finite.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def wire(self) -> dict[str, Any]:
        """The JSON object that crosses the wire: fields that are absent are left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def wire_json(self) -> bytes:
        """`wire()` as UTF-8 JSON; floats are written so that reading them gives the same bits."""
        return self.model_dump_json(exclude_none=True).encode()


# Numbers are strict: "0.1" and true are mistakes of the sender, not numbers. An integer where a float is asked is fine.
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
# 2**53 - 1 is the largest integer that every JSON reader keeps exactly; a Redis stream ID holds it with room to spare.
MAX_COUNT = 2**53 - 1
Count = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)]
# A name is a path segment, a Prometheus label value and part of a Redis key.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
ShortText = Annotated[str, Field(max_length=128)]


def successor(count: int) -> int:
    """count + 1, saturating where the wire ends."""
    return min(count + 1, MAX_COUNT)
