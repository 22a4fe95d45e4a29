"""What every message on the wire has in common, and the number types its fields are made of.

Messages are frozen, refuse unknown fields and never hold a NaN or an infinity: a run that diverged says so with a
`status`, not with a number that JSON cannot carry.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Any, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

SHOWN = 128  # characters of a text that is printed whole: the longest that a person writes


class Message(BaseModel):
    """Base of all wire messages: immutable, closed, finite.

    Raises:
        pydantic.ValidationError: a field is missing, unknown, of the wrong type, out of range or not finite.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # The pydantic plugin compares this with a signature that it makes up for the subclass.
    @classmethod
    def model_construct(  # type: ignore[override]
        cls, _fields_set: set[str] | None = None, **values: Any
    ) -> Self:
        """pydantic's, without what messages do not have (aliases, extras, private attributes): a fifth of its time.

        A decision constructs ten messages, which were a third of its time.
        """
        plan = _plan(cls)
        made = {**plan.template, **values}
        if len(values) < len(plan.template):
            if not plan.required <= values.keys():
                return super().model_construct(_fields_set, **values)
            for name, make in plan.factories:
                if name not in values:
                    made[name] = make()
        return complete(cls, made, set(values) if _fields_set is None else _fields_set)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """pydantic's, for the same reason; `update` is not validated."""
        if deep:
            return super().model_copy(update=update, deep=True)
        changed = update or {}
        fields_set = self.__pydantic_fields_set__
        if not changed.keys() <= fields_set:
            fields_set = fields_set | changed.keys()
        return complete(type(self), {**self.__dict__, **changed}, fields_set)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Printed for people: of a state token, which is most of a decision, only the beginning."""
        for name, value in super().__repr_args__():
            long = isinstance(value, str) and len(value) > SHOWN
            yield name, f"{value[:16]}… {len(value)} characters" if long else value

    def wire(self) -> dict[str, Any]:
        """The JSON object that crosses the wire: fields that are absent are left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def wire_json(self) -> bytes:
        """`wire()` as UTF-8 JSON; floats are written so that reading them gives the same bits."""
        return self.__pydantic_serializer__.to_json(self, exclude_none=True)  # model_dump_json makes text of the bytes


M = TypeVar("M", bound=Message)


class _Plan(NamedTuple):
    """How to construct a class: its fields in order with their defaults, those that need a value, those made anew."""

    template: dict[str, Any]
    required: frozenset[str]
    factories: tuple[tuple[str, Callable[[], Any]], ...]


@lru_cache(maxsize=256)
def _plan(cls: type[BaseModel]) -> _Plan:
    fields = cls.model_fields
    factories: Any = [(name, field.default_factory) for name, field in fields.items() if field.default_factory]
    return _Plan(
        {name: field.default for name, field in fields.items()},
        frozenset(name for name, field in fields.items() if field.is_required()),
        tuple(factories),
    )


def complete(cls: type[M], values: dict[str, Any], fields_set: set[str] | None = None) -> M:
    """A message of values that need no check, every field in the order of the class: half of model_construct's time.

    Frozen fields are set as pydantic itself sets them. Those that were given are all, unless `fields_set` names them.
    """
    message = object.__new__(cls)
    _set_dict(message, values)
    _set_fields_set(message, _all_fields(cls) if fields_set is None else fields_set)
    _set_extra(message, None)
    _set_private(message, None)
    return message


@lru_cache(maxsize=256)
def _all_fields(cls: type[BaseModel]) -> set[str]:
    """Shared by complete messages: they are frozen, so nothing adds to it."""
    return set(cls.model_fields)


# The slots' own setters: half the time of object.__setattr__, and no __setattr__ in between that forbids it.
_set_dict, _set_fields_set, _set_extra, _set_private = (
    BaseModel.__dict__[slot].__set__
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


# Numbers are strict: "0.1" and true are mistakes of the sender, not numbers. An integer where a float is asked is fine.
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)]
# 2**53 - 1 is the largest integer that every JSON reader keeps exactly; a Redis stream ID holds it with room to spare.
MAX_COUNT = 2**53 - 1
Count = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)]
MAX_ATTEMPT = 10_000
"""Restarts of one run: one every ten minutes for ten weeks. A run's record names all of them."""
AttemptNumber = Annotated[int, Field(strict=True, ge=0, le=MAX_ATTEMPT)]
# A name is a path segment, a Prometheus label value and part of a Redis key.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
ShortText = Annotated[str, Field(max_length=128)]
MAX_GROUPS = 256
"""Parameter groups in one message."""
MAX_REASONS = 64
"""Reason codes in one decision; there are some thirty."""


def successor(count: int) -> int:
    """count + 1, saturating where the wire ends."""
    return min(count + 1, MAX_COUNT)
