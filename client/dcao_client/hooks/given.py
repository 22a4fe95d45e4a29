"""What `attach` is given, looked at before anything starts: a mistake is one sentence, with what was meant."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from dcao_proto import Bounds

SHAPE = "loss=lambda model, batch: criterion(model(batch[0]), batch[1])"
OF_OUTPUTS = ("torch.nn.modules.loss", "torch.nn.functional")  # compare outputs with targets


def check_loss(loss: Any) -> None:
    """Raises TypeError where it is no `loss(model, batch)`."""
    name = getattr(loss, "__name__", None) or type(loss).__name__
    if not callable(loss):
        raise TypeError(f"expected loss(model, batch), a function; got {name}; for example {SHAPE}")
    where = getattr(loss, "__module__", None) if inspect.isfunction(loss) else type(loss).__module__
    if where in OF_OUTPUTS:
        raise TypeError(
            f"expected loss(model, batch), got {name}, which compares outputs with targets; wrap it: {SHAPE}"
        )
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):  # of something built in: nothing can be said
        return
    try:
        signature.bind(object(), object())
    except TypeError:
        raise TypeError(f"expected loss(model, batch), got {name}{signature}; for example {SHAPE}") from None


def check_bounds(bounds: Any) -> None:
    """Raises TypeError where they are no `Bounds`."""
    if bounds is not None and not isinstance(bounds, Bounds):
        raise TypeError(
            f"expected bounds=Bounds(lr=(0.5, 2.0)), with momentum and weight_decay if they are to move too; got "
            f"{type(bounds).__name__}; from dcao_proto import Bounds"
        )


def read_labels(labels: Any) -> dict[str, str]:
    """Labels as text: numbers are what runs are labelled with.

    Raises:
        TypeError: a name is no text, or a value neither text nor a number.
    """
    if not isinstance(labels or {}, Mapping):
        raise TypeError(f"expected labels={{'seed': 3, 'model': 'vit'}}, got {type(labels).__name__}")
    for name, value in (labels or {}).items():
        if not isinstance(name, str) or not isinstance(value, str | int | float):
            raise TypeError(
                f"expected labels={{'seed': 3, 'model': 'vit'}}, got {type(name).__name__}: {type(value).__name__}"
            )
    return {name: str(value) for name, value in (labels or {}).items()}
