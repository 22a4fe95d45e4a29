"""Writing a decision into a torch optimizer, and taking it out again.

The user's values and the user's scheduler own `param_groups` at all times but one: during `optimizer.step()`. Just
before the update a hook multiplies what stands there; just after it another puts the base back. So

* every scheduler composes exactly, chainable or closed-form, attached before or after, named or not: it reads and
  writes base values only, and a multiplier is never applied to a value that was already adjusted;
* a checkpoint of the optimizer holds base values, so that loading it can neither undo nor double a decision;
* the last word before the update is ours, whoever wrote before.

`applied` says what the last update used.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from dcao_client.hooks.path import FIRST_SHARE
from dcao_client.hooks.user_path import UserPath, bias
from dcao_proto import Decision, Hyperparameters, Multipliers, Path
from dcao_proto.optimizers import OptimizerName
from dcao_proto.policy.compose import MAX_LR
from dcao_proto.policy.path import PUSH_WEIGHTS
from dcao_proto.run import Scale

BY_CLASS: dict[str, OptimizerName] = {
    "Adam": "adam",
    "AdamW": "adamw",
    "NAdam": "nadam",
    "RAdam": "radam",
    "Adamax": "adamax",
    "RMSprop": "rmsprop",
    "Adagrad": "adagrad",
}


def optimizer_name(optimizer: Optimizer) -> OptimizerName:
    """What the protocol calls this optimizer; `other` if its stability threshold is not known."""
    kind = type(optimizer)
    for cls in kind.__mro__:
        if cls.__name__ == "SGD":
            return "nesterov" if optimizer.param_groups[0]["nesterov"] else "sgd"
        if cls.__name__ in ("Adam", "AdamW") and optimizer.param_groups[0].get("amsgrad"):
            return "amsgrad"
        if cls.__name__ in BY_CLASS:
            return BY_CLASS[cls.__name__]
    return "other"


def read_momentum(group: dict[str, Any]) -> float:
    """β of a group: `momentum`, or the first of `betas`; 0 if it has neither."""
    if "betas" in group:
        return float(group["betas"][0])
    return float(group.get("momentum") or 0.0)


class ParamGroups:
    """The base values of an optimizer and the factors on them.

    Args:
        optimizer: hooks are registered on it; `remove` takes them off.
        max_momentum: no group's momentum is raised above this.
        scale: "user", or "path": then the base is r/√G times the shape of what the user's schedule says.
        guarded: never above what the user's schedule says, whatever the base is.
    """

    def __init__(
        self, optimizer: Optimizer, *, max_momentum: float = 0.99, scale: Scale = "user", guarded: bool = False
    ) -> None:
        if not optimizer.param_groups:
            raise ValueError("expected an optimizer with at least one parameter group, got none")
        self.optimizer = optimizer
        self.steps = 0
        self.applied: Hyperparameters | None = None
        self.after_update: Callable[[], None] | None = None
        self._max_momentum = max_momentum
        self.factors = Multipliers()
        self.ceiling: float | None = None
        self.scale: Scale = scale
        self._guarded = guarded
        self._decided = False
        self._path = UserPath(optimizer, guarded=guarded) if scale == "path" else None
        self._first_rate: float | None = None
        self._share = 1.0  # of what was pushed for, in use
        self._group_factors: dict[str, float] = {}
        self._saved: list[dict[str, Any]] | None = None
        self._hooks: list[RemovableHandle] = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def base(self) -> Hyperparameters:
        """What the user's scheduler says now: the largest lr with its group's momentum, and the largest weight decay.

        Groups keep their own ratios to it, so one number can stand for all. Under scale "path" lr is the path's.
        """
        found = self.user()
        if self._path is None:
            return found
        return found.model_copy(update={"lr": min(self._path.base(found.lr), MAX_LR)})

    def user(self) -> Hyperparameters:
        """What stands in the groups now: the user's values but during an update."""
        groups = self.optimizer.param_groups
        main = max(groups, key=lambda group: float(group["lr"]))
        return Hyperparameters(
            lr=float(main["lr"]),
            momentum=read_momentum(main),
            weight_decay=max(float(group.get("weight_decay") or 0.0) for group in groups),
        )

    def path(self) -> Path | None:
        """How far the run has come, for an observation; None where it is not followed."""
        if self._path is None:
            return None
        lr = self.user().lr
        return self._path.path(lr, most=min(lr, MAX_LR) if self._guarded else None)

    def measured(self, rho: float | None) -> None:
        """A curvature before the first update says where the path starts."""
        if rho is not None and rho > 0 and self.steps == 0:
            self._first_rate = 1.0 / rho

    def set(self, decision: Decision) -> None:
        """Uses a decision from the next update on."""
        self.factors, self.ceiling, self._decided = decision.multipliers, decision.ceiling, True
        self._group_factors = {g.name: g.multiplier for g in decision.groups or ()}

    def checkpoint(self) -> dict[str, Any]:
        """What a checkpoint needs; the decision in force is kept by who made it."""
        return {"steps": self.steps, "path": None if self._path is None else self._path.state_dict()}

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.steps = int(state["steps"])
        if self._path is not None and state["path"] is not None:
            self._path.load_state_dict(state["path"])

    def remove(self) -> None:
        """Takes the hooks off; the optimizer is what it was."""
        for hook in self._hooks:
            hook.remove()
        self._restore()

    # -- around the update ------------------------------------------------------------------------------------------

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        self._restore()  # an update that raised left its values behind
        closure = kwargs.get("closure") or (args[1] if len(args) > 1 else None)
        if not callable(closure):
            self._apply(optimizer)
            return None

        # The gradient comes with the closure, which the optimizer calls before it reads its values.
        def then() -> Any:
            value = closure()
            if self._saved is None:  # the first time, where it is called again
                self._apply(optimizer)
            return value

        return (args, {**kwargs, "closure": then}) if "closure" in kwargs else ((args[0], then, *args[2:]), kwargs)

    def _apply(self, optimizer: Optimizer) -> None:
        factor = self._lr_factor()
        saved = []
        for group in optimizer.param_groups:
            saved.append(_snapshot(group))
            self._scale(group, factor)
        self._saved = saved
        self.applied = self.user()  # what stands there now is what the update reads

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._restore()
        if self._path is not None:
            self._path.after(self._share)
        self.steps += 1
        if self.after_update is not None:
            self.after_update()

    def _lr_factor(self) -> float:
        """What to multiply every group's learning rate with: min(base · f, ceiling) over the user's own."""
        user = self.user()
        base = user.lr
        if self._path is not None:
            base = self._path.before(user.lr, user.momentum, self._start())
        pushed = base * self.factors.lr
        used = pushed if self.ceiling is None else min(pushed, self.ceiling)
        if self._guarded:  # nothing measured yet is no reason to hold anything back
            used = min(used, user.lr) if self._decided else user.lr
        self._share = used / pushed if pushed > 0 else 1.0
        return used / user.lr if user.lr > 0 else self.factors.lr

    def _start(self) -> float | None:
        """r/√G before the first step: the push makes a third of 1/λ₁ of it (1−β of that where momentum is summed)."""
        if self._first_rate is None:
            return None
        state: dict[str, Any] = next(iter(self.optimizer.state.values()), {})
        return FIRST_SHARE * self._first_rate / (bias(state, self.optimizer.param_groups[0]) * PUSH_WEIGHTS)

    def _scale(self, group: dict[str, Any], factor: float) -> None:
        factor *= self._group_factors.get(str(group.get("name")), 1.0)
        _write_lr(group, float(group["lr"]) * factor)
        beta = read_momentum(group)
        if beta > 0 and self.factors.momentum != 1.0:
            # `max` keeps a base momentum that the user set above the cap; an ulp must not lift it either.
            _write_momentum(group, min(beta * self.factors.momentum, max(self._max_momentum, beta)))
        if group.get("weight_decay"):  # a group with decay 0 keeps 0
            group["weight_decay"] = group["weight_decay"] * self.factors.weight_decay

    def _restore(self) -> None:
        if self._saved is None:
            return
        for group, saved in zip(self.optimizer.param_groups, self._saved, strict=False):
            _write_lr(group, saved.pop("lr"))
            group.update(saved)
        self._saved = None


def _snapshot(group: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {name: group[name] for name in ("momentum", "betas", "weight_decay") if name in group}
    return {"lr": group["lr"].clone() if isinstance(group["lr"], torch.Tensor) else group["lr"], **kept}


def _write_lr(group: dict[str, Any], value: Any) -> None:
    """In place where lr is a tensor: compiled and captured steps hold on to it."""
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].copy_(value) if isinstance(value, torch.Tensor) else group["lr"].fill_(value)
    else:
        group["lr"] = value


def _write_momentum(group: dict[str, Any], value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value
