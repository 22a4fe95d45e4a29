"""The diagonal preconditioner of Adam-like optimizers, as a scaling s = P^-½ of weight space.

For a frozen second moment the update is w ← w − η P⁻¹m, whose stability depends on the eigenvalues of P⁻¹H,
which are those of the symmetric P^-½HP^-½ (Cohen et al. 2022, arXiv:2207.14484, §2; feeding the unsymmetric
P⁻¹H to a symmetric solver gives wrong numbers). P = (1 − β₁ᵗ)(√ν̂ + ε) with the probe's own gradient folded
into ν first, as the coming step will do it: otherwise a row that was never updated (ν = 0, P = ε) outshines
everything.

The rules below are for the optimizers of torch and their look-alikes. Any other optimizer can say its own by a method
of its class (`OwnPreconditioner`), which goes before the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dcao_client.spectrum.torch.layout import Layout, real_view
from dcao_client.spectrum.torch.sharded import local

State = dict[str, Any]
Group = dict[str, Any]
Rule = Callable[[nn.Parameter, State, Group, Tensor], Tensor]


class OwnPreconditioner(Protocol):
    """What an optimizer offers that says itself how it preconditions. Nothing is to be inherited: the names suffice.

    Attributes:
        preconditioned: False where P = 1; the method is then not called and the raw curvature is measured. Need not
            exist: absent is True.
    """

    preconditioned: bool

    def preconditioner(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        """P of this parameter, entry by entry: the coming step moves it by −(a rate)·P⁻¹·(a mean of gradients).

        Everything but the group's ``lr`` is P's: bias corrections, ε, and the gradient folded into the second moment as
        the coming step will do it. Rates of groups are compared by their ``lr``, where they have one.

        Args:
            parameter: one of the optimizer's own; it, its ``.grad`` and the optimizer's state are only to be read.
            gradient: of the probe's batch, float64, in the parameter's shape (of a sharded one: this rank's part; of a
                complex one: with a last dimension for real and imaginary part).

        Returns:
            A tensor of the gradient's shape, every entry finite and > 0.
        """
        ...


def _number(value: Any) -> float:
    return float(value)


def _moment(state: State, name: str, like: Tensor) -> Tensor:
    kept = state.get(name)
    if not isinstance(kept, Tensor):
        return torch.zeros_like(like)
    return real_view(local(kept.detach())).to(like.dtype)


def _adam(state: State, group: Group, g: Tensor) -> Tensor:
    beta1, beta2 = (_number(b) for b in group["betas"])
    step = _number(state.get("step", 0)) + 1
    second = beta2 * _moment(state, "exp_avg_sq", g) + (1 - beta2) * g * g
    if group.get("amsgrad"):
        second = torch.maximum(second, _moment(state, "max_exp_avg_sq", g))
    bias: float = 1 - beta1**step
    scaled: Tensor = bias * ((second / (1 - beta2**step)).sqrt() + _number(group["eps"]))
    return scaled


def _sparse_adam(state: State, group: Group, g: Tensor) -> Tensor:
    beta1, beta2 = (_number(b) for b in group["betas"])
    step = _number(state.get("step", 0)) + 1
    second = beta2 * _moment(state, "exp_avg_sq", g) + (1 - beta2) * g * g
    bias: float = (1 - beta1**step) / (1 - beta2**step) ** 0.5
    return bias * (second.sqrt() + _number(group["eps"]))


def _adamax(state: State, group: Group, g: Tensor) -> Tensor:
    beta1, beta2 = (_number(b) for b in group["betas"])
    step = _number(state.get("step", 0)) + 1
    norm = torch.maximum(beta2 * _moment(state, "exp_inf", g), g.abs() + _number(group["eps"]))
    bias: float = 1 - beta1**step
    scaled: Tensor = bias * norm
    return scaled


def _rmsprop(state: State, group: Group, g: Tensor) -> Tensor:
    alpha = _number(group["alpha"])
    second = alpha * _moment(state, "square_avg", g) + (1 - alpha) * g * g
    if group.get("centered"):
        mean = alpha * _moment(state, "grad_avg", g) + (1 - alpha) * g
        second = (second - mean * mean).clamp_min(0.0)
    return second.sqrt() + _number(group["eps"])


def _adagrad(state: State, group: Group, g: Tensor) -> Tensor:
    return (_moment(state, "sum", g) + g * g).sqrt() + _number(group["eps"])


def _adadelta(state: State, group: Group, g: Tensor) -> Tensor:
    rho, eps = _number(group["rho"]), _number(group["eps"])
    second = rho * _moment(state, "square_avg", g) + (1 - rho) * g * g
    return (second + eps).sqrt() / (_moment(state, "acc_delta", g) + eps).sqrt()


# By class name, not by class: subclasses and look-alikes (bitsandbytes, apex, fused forks) keep the same
# state.
_RULES: dict[str, Callable[[State, Group, Tensor], Tensor]] = {
    "Adam": _adam,
    "AdamW": _adam,
    "NAdam": _adam,
    "RAdam": _adam,
    "SparseAdam": _sparse_adam,
    "Adamax": _adamax,
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
    "Adadelta": _adadelta,
}


def rule(optimizer: torch.optim.Optimizer | None) -> Rule | None:
    """How this optimizer preconditions, or None when it does not (SGD) or not diagonally (LBFGS, Muon)."""
    if optimizer is None:
        return None
    if _says_its_own(optimizer):
        return _own(optimizer) if getattr(optimizer, "preconditioned", True) else None
    known = next((_RULES[c.__name__] for c in type(optimizer).__mro__ if c.__name__ in _RULES), None)
    return None if known is None else lambda _, state, group, g: known(state, group, g)


def _says_its_own(optimizer: torch.optim.Optimizer) -> bool:
    return callable(getattr(type(optimizer), "preconditioner", None))


def _own(optimizer: Any) -> Rule:
    def ask(parameter: nn.Parameter, _: State, __: Group, gradient: Tensor) -> Tensor:
        with torch.no_grad():
            given = local(optimizer.preconditioner(parameter, gradient)).to(gradient)
        if given.shape != gradient.shape or not bool((given > 0).all()):
            raise ValueError(
                f"expected {type(optimizer).__name__}.preconditioner to return positive entries of shape "
                f"{tuple(gradient.shape)}; got shape {tuple(given.shape)}, least {float(given.min()):g}"
            )
        return given

    return ask


def scaling(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    gradient: Tensor,
    layout: Layout,
) -> Tensor:
    """s = P^-½ as a flat vector; zero where a parameter belongs to no group (it does not move).

    Groups with other learning rates or β₁ than the one with the largest rate (whose rate and β₁ an observation names)
    are rescaled by their ratio η_g·c₀/(η₀·c_g) with c = (1 + β₁)/(1 − β₁), so that one number compared with its
    threshold answers for all (the "effective sharpness" of Cohen et al. 2024, arXiv:2410.24206, up to the constant).
    """
    how = rule(optimizer)
    if how is None:
        raise ValueError(f"expected an optimizer with a diagonal second moment; got {type(optimizer).__name__}")
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    base, own = max(optimizer.param_groups, key=_rate), _says_its_own(optimizer)
    pieces = []
    for parameter, g in zip(parameters, layout.unflatten(gradient), strict=True):
        group = groups.get(id(parameter))
        if group is None:
            pieces.append(torch.zeros_like(real_view(g), dtype=torch.float64))
            continue
        state = optimizer.state.get(parameter, {})
        denominator = how(parameter, state, group, real_view(g).to(torch.float64))
        if group.get("maximize"):
            raise ValueError("expected an optimizer that minimises; got maximize=True")
        pieces.append((_relative_rate(group, base, own=own) / denominator).sqrt())
    return layout.flatten(pieces)


def _rate(group: Group) -> float:
    """A group's rate; 0 where an optimizer of its own kind has none."""
    given = group.get("lr")
    return _number(given) if isinstance(given, int | float | Tensor) else 0.0


def _relative_rate(group: Group, base: Group, *, own: bool) -> float:
    if own and not all(isinstance(g.get("lr"), int | float | Tensor) for g in (group, base)):
        return 1.0
    rate, reference = _number(group["lr"]), _number(base["lr"])
    ratio = rate / reference if reference > 0 else 1.0
    return ratio if own else ratio * _horizon(base) / _horizon(group)


def _horizon(group: Group) -> float:
    beta = _number(group["betas"][0]) if "betas" in group else 0.0
    return (1 + beta) / (1 - beta)
