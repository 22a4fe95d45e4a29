"""What `attach` is given, looked at before anything starts: a mistake is one sentence, with what was meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from dcao_proto import Bounds

SHAPE = "loss=lambda model, batch: criterion(model(batch[0]), batch[1])"
LEAST_FACTOR = 0.01  # on a group's rate: below, a learning rate was meant
OF_OUTPUTS = ("torch.nn.modules.loss", "torch.nn.functional")  # compare outputs with targets


def check_model(model: Any) -> None:
    """Raises TypeError where it is no module; who gives its parameters means the module."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected the model itself first, a torch.nn.Module; got {type(model).__name__}")


def check_optimizer(optimizer: Any) -> None:
    """Raises TypeError where it is no optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"expected attach(model, optimizer, loss), got {type(optimizer).__name__} for the optimizer")


def check_options(options: Mapping[str, Any], taken: Callable[..., Any]) -> None:
    """Raises TypeError for one that `DCAO(model, loss)` has no use for, with those that it has."""
    known = [p.name for p in inspect.signature(taken).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise TypeError(
                f"expected options of DCAO(model, loss) among form, weight_decay, averaging, policy_params, "
                f"probe_interval, labels, {', '.join(known)}; got {name}. Trust and policy are not chosen where the "
                "rate is found: `attach` takes both"
            )


def doubt_factors(groups: list[dict[str, Any]]) -> str | None:
    """What to say where groups of `DCAO(model, loss)` hold what looks like a learning rate, or a schedule's."""
    factors = [float(group["lr"]) for group in groups]
    if max(factors) == 1.0 and not 0.0 < min(factors) < LEAST_FACTOR:
        return None
    return (
        f"DCAO: lr of the groups is {factors}; here it is a factor on the rate that is found, 1 unless set, and slows "
        "training down, as a schedule over it does: leave both out"
    )


def check_closure(closure: Any) -> None:
    """Raises TypeError where a batch was given in its place."""
    if closure is not None and not callable(closure):
        raise TypeError(f"expected step(batch=…), for torch's step takes a closure first; got {type(closure).__name__}")


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
