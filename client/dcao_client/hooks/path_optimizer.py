"""`DCAO(model, loss)`: schedule-free steps at the path's rate under the curvature's ceiling.

Each step: take the gradients into the second moment and into √G; measure and decide if it is time to; go
min(f·r/√G, ceiling), the rate of y; look how far the average has come. The mathematics of a step is in
`schedule_free.py`, its plain twin in `schedule_free_plain.py`, the law in `dcao_proto.policy.path`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dcao_client.checkpoint import reading
from dcao_client.hooks.attachment import Loss
from dcao_client.hooks.batch_norm import BATCHES, retake, with_statistics
from dcao_client.hooks.dear_probes import AVERAGED_INTERVAL
from dcao_client.hooks.forms import FormName
from dcao_client.hooks.given import check_closure, check_options, doubt_factors, read_labels
from dcao_client.hooks.muon import hidden_matrices
from dcao_client.hooks.path_checkpoint import MADE_BY, check_saved, keep_precision
from dcao_client.hooks.path_meter import PathMeter
from dcao_client.hooks.point_watch import watch
from dcao_client.hooks.schedule_free import AVERAGING, Moving, ScheduleFree
from dcao_client.hooks.torch_loop import control
from dcao_client.spectrum.torch.isolation import unwrap
from dcao_client.spectrum.torch.sharded import local
from dcao_proto import Decision, Hyperparameters, PolicyChoice, RunSpec
from dcao_proto import Path as WayCome
from dcao_proto.policy.compose import MAX_LR
from dcao_proto.policy.path import PathParameters, push_of

log = logging.getLogger("dcao")

MOST_VOID = 3  # gradients in a row that are not finite: one is a batch, three are the weights


class PathOptimizer(ScheduleFree):
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
        lr: None = None,
        form: FormName = "adam",
        weight_decay: float = 0.0,
        averaging: float = AVERAGING,
        policy_params: dict[str, Any] | None = None,
        probe_interval: int | None = None,
        labels: Mapping[str, str | float] | None = None,
        **options: Any,
    ) -> None:
        check_options(options, control)
        chosen = [p for p in model.parameters() if p.requires_grad] if params is None else params
        hidden = hidden_matrices(unwrap(model))
        ScheduleFree.__init__(self, chosen, form=form, hidden=hidden, averaging=averaging, weight_decay=weight_decay)
        self._model, self._loss = model, loss
        self._meter: PathMeter | None = None
        self._metric: Tensor | None = None
        self._decision: Decision | None = None
        self._normalised = bool(with_statistics(unwrap(model)))
        self._recent: deque[Any] = deque(maxlen=BATCHES)
        self._said: set[str] = set()
        self._void = 0  # steps in a row that were left out
        self.steps = 0
        self.applied: Hyperparameters | None = None
        spec = RunSpec(
            optimizer=self.form.optimizer,
            base=Hyperparameters(lr=0.0, momentum=averaging, weight_decay=weight_decay),
            policy=PolicyChoice(name="default", params=policy_params or {}),
            scale="path",
            trust="auto",
            probe_interval=AVERAGED_INTERVAL if probe_interval is None else probe_interval,
            labels=read_labels(labels),
        )
        self.control = control(model, self, loss, self, spec, stretch=probe_interval is None, **options)
        self._hooks = watch(self, unwrap(model))

    def step(self, closure: Callable[[], float] | None = None, *, batch: Any = None) -> float | None:  # type: ignore[override]
        """One update.

        Args:
            closure: reevaluates the model and returns the loss, with gradients; for those who have one.
            batch: what the gradient was taken on; the curvature is measured on a part of it when it is time to.
        """
        check_closure(closure)
        if not self.training:
            raise RuntimeError("expected train() before step(): the model holds the average, whose gradient is another")
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        moving = self.moving()
        if not moving.params:
            return value
        if not self._see(moving):
            self._void += 1
            if self._void >= MOST_VOID:
                self._void = 0
                self.control.diverged(f"{MOST_VOID} gradients in a row were not finite")
            return value
        self._void, self.control.went_back = 0, False
        self.prepare()
        self._measure(batch)
        if not self.control.went_back:
            self._move(moving)
        return value

    # -- one step -----------------------------------------------------------------------------------------------------

    def _see(self, moving: Moving) -> bool:
        """Takes the gradients into √G, in the metric of the coming step.

        Returns:
            Whether they are numbers. A step along others would end the run; it is left out, and said once.
        """
        if self._meter is None:
            self._meter = PathMeter(moving.params)
        meter = self._meter
        meter.cover(moving.params)
        found = [p.grad for p in moving.params if p.grad is not None]
        gradients, self._metric = self.form.on_sketch(meter, moving.params, moving.moments, found, self.updates + 1)
        lengths = torch._foreach_norm([_dense_local(p.grad) for p in moving.params])
        whole = torch.stack([length.to(gradients) for length in lengths]).sum()
        if meter.saw(gradients, self._metric, whole=whole):
            return True
        self.say(
            "finite",
            "DCAO: a gradient is not finite; the step is left out. If this goes on, the loss or the data is at fault",
        )
        return False

    def _measure(self, batch: Any) -> None:
        if batch is None and not self.control.brings_data:
            self.say(
                "batch",
                "DCAO: step() was called without batch=, so the curvature cannot be measured and nothing holds the "
                "rate back; call optimizer.step(batch=batch) with what loss(model, batch) takes",
            )
            return
        if self._normalised and batch is not None:
            self._recent.append(batch)
        self.control.step(batch)

    def _move(self, moving: Moving) -> None:
        assert self._meter is not None  # noqa: S101  (`_see` made it)
        if self._meter.distance == 0.0:  # no curvature said how far the first step may go
            self._meter.start(None, self._metric)
        if wrong := doubt_factors(self.param_groups):
            self.say("factors", wrong)
        decision = self._decision
        base = self.base()
        used = base.lr * self._push()
        if decision is not None and decision.ceiling is not None:
            used = min(used, decision.ceiling)
        rate = used / self._share()
        self.applied = base.model_copy(update={"lr": min(used, MAX_LR)})
        self.update(rate)
        self.steps += 1
        y = self._meter.flat(moving.params, lasting="y")
        z = self._meter.flat(moving.z, lasting="z")
        self._meter.came(torch.lerp(y, z, 1.0 - 1.0 / self.averaging), self._metric)
        self._metric = None

    def _share(self) -> float:
        """1 − b(1−c) at the rate that the path pushes for."""
        return self.y_share(self._push() * (0.0 if self._meter is None else self._meter.level))

    def _push(self) -> float:
        """s, as decided."""
        if self._decision is not None:
            return self._decision.multipliers.lr
        return push_of(PathParameters(), self.form.optimizer, self.averaging)

    # -- what `control` controls --------------------------------------------------------------------------------------

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
            self._meter.start(1.0 / (rho * self._push()), self._metric)

    def set(self, decision: Decision) -> None:
        """Uses a decision from this step on."""
        self._decision = decision

    def checkpoint(self) -> dict[str, Any]:
        """What beside weights and torch's state belongs to a point of the run."""
        return {
            "training": self.training,
            "steps": self.steps,
            "updates": self.updates,
            "weights": {"largest": self.weights.largest, "total": self.weights.total},
            "meter": None if self._meter is None else self._meter.state_dict(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from such a point; the optimizer's own state is there already."""
        self.training, self.steps, self.updates = bool(state["training"]), int(state["steps"]), int(state["updates"])
        self.weights.largest, self.weights.total = (float(state["weights"][name]) for name in ("largest", "total"))
        self._meter = None
        if state["meter"] is not None:
            self._meter = PathMeter([p for g in self.param_groups for p in g["params"] if "z" in self.state.get(p, {})])
            self._meter.load_state_dict(state["meter"])

    def remove(self) -> None:
        """Lets go of the model; the optimizer trains on with the last decision."""
        for hook in self._hooks:
            hook.remove()

    # -- which point the model holds ----------------------------------------------------------------------------------

    def eval(self, batches: Iterable[Any] | None = None) -> None:
        """The model holds the average x from now on: to be evaluated, or saved to be used.

        Args:
            batches: training batches to take batch-norm statistics on; the last ten that `step` was given if absent.
        """
        if not self.training:
            return
        ScheduleFree.eval(self)
        if self._normalised and self.updates:
            chosen = (
                list(self._recent) if batches is None else [b for b, _ in zip(batches, range(BATCHES), strict=False)]
            )
            if not chosen:
                self.say(
                    "statistics",
                    "DCAO: the model has batch normalisation, whose running statistics belong to the point it trained "
                    "at; give step(batch=…) or eval(batches=…) training batches to take them on",
                )
            retake(unwrap(self._model), self._loss, chosen)

    def say(self, about: str, text: str) -> None:
        """Once."""
        if about not in self._said:
            self._said.add(about)
            log.warning(text)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """torch's, and under "dcao" what a run needs to go on exactly: the path, the averaging weights, the control."""
        state = Optimizer.state_dict(self)
        state["dcao"] = self.control.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from `state_dict()`; the model's own weights are loaded by whoever saved them, in the same mode.

        Raises:
            CheckpointError: the checkpoint is of another kind of optimizer, of another form, or of other parameters.
        """
        with reading(MADE_BY, state_dict):
            ours = check_saved(self, state_dict)
            Optimizer.load_state_dict(self, {name: value for name, value in state_dict.items() if name != "dcao"})
            keep_precision(self, state_dict)
        self.control.load_state_dict(ours)


def _dense_local(gradient: Tensor | None) -> Tensor:
    assert gradient is not None  # noqa: S101  (those that move have one)
    here = local(gradient)
    return here.coalesce().values() if here.is_sparse else here
