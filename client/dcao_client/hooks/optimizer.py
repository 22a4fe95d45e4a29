"""`DCAO`: one object that trains. Without a learning rate it finds the rate itself; with one it is the proposal's SGD.

Without: schedule-free steps (`schedule_free.py`) at the rate min(s·r/√G, ceiling): the path pushes, curvature holds.
With: v ← β·v + g + λ·θ;  θ ← θ − η·v, with η, β, λ from the controller (the proposal's §2.4). That is torch's SGD, which
computes exactly this, with the controller attached.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from dcao_client.hooks.batch_norm import BATCHES, retake, with_statistics
from dcao_client.hooks.path_meter import PathMeter, sketch
from dcao_client.hooks.schedule_free import AVERAGING, Form, ScheduleFree
from dcao_client.hooks.torch_loop import PATH_INTERVAL, Attachment, Loss, attach, control
from dcao_client.spectrum.isolation import unwrap
from dcao_proto import Decision, Hyperparameters, PolicyChoice, RunSpec
from dcao_proto import Path as WayCome
from dcao_proto.policy.compose import MAX_LR
from dcao_proto.policy.path import PUSH_AVERAGE

log = logging.getLogger("dcao")


class DCAO(Optimizer):
    """Trains a model without a learning rate, a schedule, a warm-up or a length of run.

    Give `step` the batch, so that the curvature can be measured now and then; call `eval()` before you evaluate or
    save the model and `train()` before you go on.

    Args:
        model: what is trained; needed to measure it. Wrappers of DDP and `torch.compile` are looked through.
        loss: `loss(model, batch)`, the mean loss of a batch.
        params: parameters or groups; all of the model's that require a gradient if absent.
        lr, momentum: given, this is momentum SGD under control, its base values η₀ and β₀; everything of `attach` applies.
        form: "adam" or "sgd", what a step divides by.
        weight_decay: λ, decoupled, of the averaged form; λ₀ of the SGD form.
        averaging: b in (0, 1): where between the newest and the average iterate the gradient is taken.
        options: everything else that `attach` takes: run, project, url, policy_params, probe_interval, overhead, …

    Raises:
        ValueError, TypeError: an argument is out of range or does not go with the others.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1)
        >>> mse = lambda model, batch: nn.functional.mse_loss(model(batch[0]), batch[1])
        >>> optimizer = DCAO(model, mse, run="doctest", journal_dir="/dev/null/nowhere")
        >>> batch = torch.eye(2), torch.ones(2, 1)
        >>> for _ in range(50):
        ...     optimizer.zero_grad(); mse(model, batch).backward(); optimizer.step(batch=batch)
        >>> optimizer.eval(); bool(mse(model, batch) < 0.05)
        True
        >>> optimizer.control.finish()
    """

    control: Attachment

    def __new__(cls, *args: Any, lr: float | None = None, **kwargs: Any) -> DCAO:
        kind = cls if cls is not DCAO else (PathDCAO if lr is None else MomentumDCAO)
        return object.__new__(kind)

    if TYPE_CHECKING:

        def __init__(
            self,
            model: nn.Module,
            loss: Loss,
            params: Iterable[Any] | None = None,
            *,
            lr: float | None = None,
            momentum: float = 0.9,
            form: Form = "adam",
            weight_decay: float = 0.0,
            averaging: float = AVERAGING,
            **options: Any,
        ) -> None: ...

        def step(self, closure: Callable[[], float] | None = None, *, batch: Any = None) -> float | None:  # type: ignore[override]
            """One update; measures the curvature first if it is time to and a batch is given."""

        def train(self) -> None:
            """The model trains from now on."""

        def eval(self, batches: Iterable[Any] | None = None) -> None:
            """The model is evaluated or saved from now on."""


class MomentumDCAO(DCAO, SGD):
    """Momentum SGD whose values follow the curvature: `DCAO(model, loss, lr=…)`."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        params: Iterable[Any] | None = None,
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        **attach_options: Any,
    ) -> None:
        SGD.__init__(
            self, model.parameters() if params is None else params, lr=lr, momentum=momentum, weight_decay=weight_decay
        )
        # Before `attach` registers its own hooks: a decision made here is the one that they apply.
        self.register_step_pre_hook(_probe_first)
        self.control = attach(model, self, loss, **attach_options)

    def train(self) -> None:
        """Nothing: the model always holds what is trained."""

    def eval(self, batches: Iterable[Any] | None = None) -> None:
        """Nothing: the model always holds what is trained."""


class PathDCAO(DCAO, ScheduleFree):
    """Schedule-free steps at the path's rate under the curvature's ceiling: `DCAO(model, loss)`.

    Attributes:
        control: the talk with the controller: `.decision`, `.spectrum`, `.session`, `finish()`.
        steps, applied: optimizer steps so far, and what the last one used; `applied.lr` is how far y moved along the
            update, η·(1 − b(1−c)).
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        params: Iterable[Any] | None = None,
        *,
        form: Form = "adam",
        weight_decay: float = 0.0,
        averaging: float = AVERAGING,
        policy_params: dict[str, Any] | None = None,
        probe_interval: int | None = None,
        labels: dict[str, str] | None = None,
        **options: Any,
    ) -> None:
        chosen = [p for p in model.parameters() if p.requires_grad] if params is None else params
        ScheduleFree.__init__(self, chosen, form=form, averaging=averaging, weight_decay=weight_decay)
        self._model, self._loss = model, loss
        self._meter: PathMeter | None = None
        self._metric: list[Tensor] | None = None
        self._decision: Decision | None = None
        self._normalised = bool(with_statistics(unwrap(model)))
        self._recent: deque[Any] = deque(maxlen=BATCHES)
        self._said: set[str] = set()
        self.steps = 0
        self.applied: Hyperparameters | None = None
        spec = RunSpec(
            optimizer="schedule_free_sgd" if form == "sgd" else "schedule_free_adam",
            base=Hyperparameters(lr=0.0, momentum=averaging, weight_decay=weight_decay),
            policy=PolicyChoice(name="default", params=policy_params or {}),
            scale="path",
            trust="auto",
            probe_interval=probe_interval or PATH_INTERVAL,
            labels=labels or {},
        )
        self.control = control(model, self, loss, self, spec, **options)
        self._hooks = _watch(self, model)

    @property
    def preconditioned(self) -> bool:
        """Whether a step divides by P."""
        return self.form != "sgd"

    def step(self, closure: Callable[[], float] | None = None, *, batch: Any = None) -> float | None:  # type: ignore[override]
        """One update.

        Args:
            closure: reevaluates the model and returns the loss, with gradients; for those who have one.
            batch: what the gradient was taken on; the curvature is measured on a part of it when it is time to.
        """
        if not self.training:
            raise RuntimeError("expected train() before step(): the model holds the average, whose gradient is another")
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        moving = self.moving()
        if not moving:
            return value
        self.prepare()
        self._see(moving)
        self._measure(batch)
        self._move(moving)
        return value

    # -- one step ------------------------------------------------------------------------------------------------------

    def _see(self, moving: list[Tensor]) -> None:
        """Takes the gradients into √G."""
        if self._meter is None:
            self._meter = PathMeter(moving)
        meter = self._meter
        meter.cover(moving)
        if self.preconditioned:
            correction = 1.0 - self.beta2**self.updates
            moments = meter.sketches([self.state[p]["exp_avg_sq"] for p in moving])
            self._metric = [(v.float() / correction).sqrt_().add_(self.eps) for v in moments]
        meter.saw([sketch(p.grad, s) for p, s in zip(moving, meter.strides, strict=True) if p.grad is not None], self._metric)

    def _measure(self, batch: Any) -> None:
        if batch is None:
            self._say(
                "batch",
                "DCAO: step() was called without batch=, so the curvature cannot be measured and nothing holds the rate "
                "back; call optimizer.step(batch=batch) with what loss(model, batch) takes",
            )
            return
        if self._normalised:
            self._recent.append(batch)
        self.control.step(batch)

    def _move(self, moving: list[Tensor]) -> None:
        assert self._meter is not None  # noqa: S101  (`_see` made it)
        if self._meter.distance == 0.0:  # no curvature said how far the first step may go
            self._meter.start(None, self._metric)
        decision = self._decision
        push = PUSH_AVERAGE if decision is None else decision.multipliers.lr
        base = self.base()
        used = base.lr * push
        if decision is not None and decision.ceiling is not None:
            used = min(used, decision.ceiling)
        rate = used / self._share()
        self.applied = base.model_copy(update={"lr": min(used, MAX_LR)})
        self.update(rate)
        self.steps += 1
        self._meter.came(self._meter.sketches([self.average(p) for p in moving]), self._metric)
        self._metric = None

    def _share(self) -> float:
        """1 − b(1−c) at the rate that the path pushes for."""
        push = PUSH_AVERAGE if self._decision is None else self._decision.multipliers.lr
        return self.y_share(push * (0.0 if self._meter is None else self._meter.level))

    # -- what `control` controls -----------------------------------------------------------------------------------------

    def base(self) -> Hyperparameters:
        """r/√G as a step of y, b, and λ."""
        level = 0.0 if self._meter is None else self._meter.level
        decay = max(float(group["weight_decay"]) for group in self.param_groups)
        return Hyperparameters(lr=min(level * self._share(), MAX_LR), momentum=self.averaging, weight_decay=decay)

    def path(self) -> WayCome | None:
        """How far the run has come."""
        meter = self._meter
        if meter is None:
            return None
        return WayCome(distance=meter.distance, gradients=meter.gradients, steps=meter.steps)

    def measured(self, rho: float | None) -> None:
        """The first curvature says how far the first step goes: 1/λ₁."""
        if rho is not None and rho > 0 and self.steps == 0 and self._meter is not None:
            self._meter.start(1.0 / (rho * PUSH_AVERAGE), self._metric)

    def set(self, decision: Decision) -> None:
        """Uses a decision from this step on."""
        self._decision = decision

    def checkpoint(self) -> dict[str, Any]:
        """Nothing: `state_dict` has it all."""
        return {}

    def resume(self, state: dict[str, Any]) -> None:
        """Nothing: `load_state_dict` did it all."""

    def remove(self) -> None:
        """Lets go of the model; the optimizer trains on with the last decision."""
        for hook in self._hooks:
            hook.remove()

    # -- which point the model holds -------------------------------------------------------------------------------------

    def eval(self, batches: Iterable[Any] | None = None) -> None:
        """The model holds the average x from now on: to be evaluated, or saved to be used.

        Args:
            batches: training batches to take batch-norm statistics on; the last ten that `step` was given if absent.
        """
        if not self.training:
            return
        ScheduleFree.eval(self)
        if self._normalised and self.updates:
            chosen = list(self._recent) if batches is None else [b for b, _ in zip(batches, range(BATCHES), strict=False)]
            if not chosen:
                self._say(
                    "statistics",
                    "DCAO: the model has batch normalisation, whose running statistics belong to the point it trained at; "
                    "give step(batch=…) or eval(batches=…) training batches to take them on",
                )
            retake(unwrap(self._model), self._loss, chosen)

    def _say(self, about: str, text: str) -> None:
        """Once."""
        if about not in self._said:
            self._said.add(about)
            log.warning(text)

    # -- checkpoints -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """torch's, and under "dcao" what a run needs to go on exactly: the path, the averaging weights, the control."""
        state = Optimizer.state_dict(self)
        state["dcao"] = {
            "training": self.training,
            "steps": self.steps,
            "updates": self.updates,
            "weights": {"largest": self.weights.largest, "total": self.weights.total},
            "meter": None if self._meter is None else self._meter.state_dict(),
            "control": self.control.state_dict(),
        }
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from `state_dict()`; the model's own weights are loaded by whoever saved them, in the same mode.

        Raises:
            ValueError: the checkpoint is of another kind of optimizer, or of other parameters.
        """
        ours = state_dict.get("dcao")
        if ours is None:
            raise ValueError('expected a checkpoint of DCAO, with "dcao" in it; got one of another optimizer')
        Optimizer.load_state_dict(self, {name: value for name, value in state_dict.items() if name != "dcao"})
        self._keep_precision(state_dict)
        self.training, self.steps, self.updates = bool(ours["training"]), int(ours["steps"]), int(ours["updates"])
        self.weights.largest, self.weights.total = (float(ours["weights"][name]) for name in ("largest", "total"))
        if ours["meter"] is not None:
            moved = [p for group in self.param_groups for p in group["params"] if "z" in self.state.get(p, {})]
            self._meter = PathMeter(moved)
            self._meter.load_state_dict(ours["meter"])
        self.control.load_state_dict(ours["control"])

    def _keep_precision(self, saved: dict[str, Any]) -> None:
        """torch gives loaded state the parameters' dtype; ours keeps float32 beside parameters of lower precision."""
        numbers = [i for group in saved["param_groups"] for i in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        for number, p in zip(numbers, params, strict=True):
            for name, value in saved["state"].get(number, {}).items():
                self.state[p][name] = value.detach().to(device=p.device, copy=True)


class _Watch:
    """Says once when a model is evaluated or saved at the point where it trains."""

    def __init__(self, optimizer: PathDCAO | None) -> None:
        self._optimizer = None if optimizer is None else weakref.ref(optimizer)

    def __reduce__(self) -> Any:
        return _Watch, (None,)  # a copy of the model is nobody's

    def _training(self) -> PathDCAO | None:
        optimizer = None if self._optimizer is None else self._optimizer()
        return optimizer if optimizer is not None and optimizer.training and optimizer.steps > 0 else None

    def forward(self, module: nn.Module, _: Any) -> None:
        optimizer = self._training()
        if optimizer is not None and not module.training and not torch.is_grad_enabled():
            optimizer._say(
                "evaluated",
                "DCAO: the model is evaluated at the point where it trains, which is not the one to use; call "
                "optimizer.eval() before and optimizer.train() after",
            )

    def saved(self, *_: Any) -> None:
        optimizer = self._training()
        if optimizer is not None:
            optimizer._say(
                "saved",
                "DCAO: the model's weights are saved at the point where it trains. That is right for a checkpoint to "
                "resume from (with the optimizer's state); for weights to use call optimizer.eval() before",
            )


def _watch(optimizer: PathDCAO, model: nn.Module) -> list[Any]:
    watch, module = _Watch(optimizer), unwrap(model)
    hooks = [module.register_forward_pre_hook(watch.forward)]
    if hasattr(module, "register_state_dict_pre_hook"):  # torch 2.5 and later
        hooks.append(module.register_state_dict_pre_hook(watch.saved))
    return hooks


def _probe_first(optimizer: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Takes `batch` out of the call. A hook, because torch wraps `step` and an override would be wrapped twice."""
    batch = kwargs.pop("batch", None)
    if batch is not None:
        optimizer.control.step(batch)
    return args, kwargs
