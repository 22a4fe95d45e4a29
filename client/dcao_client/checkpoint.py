"""Checkpoints: what is read from one is looked at before anything is taken from it.

A checkpoint comes from a file, perhaps of another version, another object or cut short. What does not fit is one
sentence, with what was expected, what was got and what to do; a bare KeyError is not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, ValidationError

from dcao_client.errors import CheckpointError
from dcao_proto import Decision, Hyperparameters
from dcao_proto.message import AttemptNumber, Count, Message, Name
from dcao_proto.observation import MAX_TOKEN_LENGTH

SHOWN = 8  # keys of what was got that are named
OF_OTHERS = {  # by what stands in them
    "param_groups": "a torch optimizer's",
    "_step_count": "a torch scheduler's",
    "controlled": "that of what `attach` gave back",
    "token": "a session's",
    "warm": "a probe's",
}


class SessionState(Message):
    """What `Session.state_dict()` gives."""

    project: Name
    run: Name
    base: Hyperparameters | None = Field(default=None, description="What the run began with.")
    attempt: AttemptNumber
    token: str = Field(max_length=MAX_TOKEN_LENGTH)
    version: Count
    last: Decision | None = None

    @classmethod
    def read(cls, state: Any) -> SessionState:
        """From a checkpoint.

        Raises:
            CheckpointError: it is none of a session.
        """
        names = [name for name, field in cls.model_fields.items() if field.is_required()]
        check_keys(state, names, "Session.state_dict()")
        with reading("Session.state_dict()", state):
            return cls.model_validate(dict(state))


def check_keys(state: Any, wanted: list[str] | tuple[str, ...], made_by: str) -> None:
    """Raises CheckpointError where `state` is no dict with these keys.

    Args:
        state: what was given to be loaded.
        wanted: what must be there.
        made_by: what such a dict is made by, for example "Session.state_dict()".
    """
    if not isinstance(state, Mapping):
        raise CheckpointError(f"expected the dict that {made_by} gave, got {type(state).__name__}")
    missing = [name for name in wanted if name not in state]
    if missing:
        raise CheckpointError(
            f"expected the dict that {made_by} gave, got {_described(state)}, which lacks {', '.join(missing)}; "
            "load what was saved from that call, or leave it out to begin afresh"
        )


def check_version(state: Any, ours: int, made_by: str) -> None:
    """Raises CheckpointError where `state` says that it is of another version; one that says none is of the first."""
    check_keys(state, (), made_by)
    if (got := state.get("version", 1)) != ours:
        raise CheckpointError(
            f"expected the dict that {made_by} gave in version {ours}, got version {got!r}; load it with the "
            "release of dcao that saved it, or leave it out to begin afresh"
        )


@contextlib.contextmanager
def reading(made_by: str, state: Any) -> Iterator[None]:
    """What goes wrong inside, because of what stands in `state`, is a CheckpointError that says so.

    Ours, and those that say what was expected, go through.
    """
    try:
        yield
    except CheckpointError:
        raise
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        wrong = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        if str(error).startswith("expected"):
            raise CheckpointError(str(error)) from error
        wrong = f"it lacks {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
    else:
        return
    raise CheckpointError(
        f"expected the dict that {made_by} gave, got {_described(state)} that does not fit ({wrong}); it was made by "
        "another version or object, or was cut short: load another, or leave it out to begin afresh"
    )


def _described(state: Mapping[str, Any]) -> str:
    if not state:
        return "an empty one"
    of = next((name for key, name in OF_OTHERS.items() if key in state), None)
    keys = sorted(map(str, state))
    shown = ", ".join(keys[:SHOWN]) + (", …" if len(keys) > SHOWN else "")
    return f"one with {shown}" + (f" ({of})" if of else "")
