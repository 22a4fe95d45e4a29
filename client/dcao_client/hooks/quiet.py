"""Nothing of ours raises into a user's training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from dcao_client.once import Once

P = ParamSpec("P")
R = TypeVar("R")


class Speaks(Protocol):
    """Has something to say things once with."""

    once: Once


S = TypeVar("S", bound=Speaks)


def never_raises(hook: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R | None]:
    """A hook in which whatever goes wrong is logged once, and training goes on without what it would have done.

    One whose owner is `strict`, for tests, raises.
    """

    @functools.wraps(hook)
    def quiet(self: S, *args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return hook(self, *args, **kwargs)
        except Exception as error:
            if getattr(self, "strict", False):
                raise
            name = hook.__name__
            self.once.warn(name, "DCAO: %s failed (%s: %s); training goes on", name, type(error).__name__, error)
            return None

    return quiet  # type: ignore[return-value]  # mypy names the first argument of a wrapped function
