"""What people use: SGD or AdamW, a rate from a grid, and a schedule; and the rate found by a range test."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from dcao_experiments.methods.method import ADAM_BETAS, WARM_UP, Make, Method, Trained
from dcao_experiments.methods.ours import user_optimizer
from dcao_experiments.workloads.small import loss

Shape = Callable[[float], float]  # share of the run done, in [0, 1] → share of the peak rate
CLIP = 1.0
COOL_DOWN = 0.2  # share of the steps in which warm-up–stable–decay falls (Hägele et al. 2024, §3: 10–20 %)
RANGE = (1e-7, 10.0)  # rates of a range test, and how many steps it may take
RANGE_STEPS = 100
CALIBRATED = 0.0034  # geometric mean of the best AdamW rates of the development workloads on seeds 0–2


def cosine(t: float) -> float:
    """Loshchilov & Hutter 2017, without restarts."""
    return 0.5 * (1 + math.cos(math.pi * t))


def linear_decay(t: float) -> float:
    """To zero (Defazio et al. 2023, "When, why and how much?", §1)."""
    return 1 - t


def stable_then_decay(t: float) -> float:
    """Warm-up–stable–decay: constant, then 1 − √ of what is left (Hägele et al. 2024, §3)."""
    done = max(t - (1 - COOL_DOWN), 0) / COOL_DOWN
    return 1 - math.sqrt(done)


def with_warm_up(shape: Shape) -> Shape:
    """Linearly from zero over the first 5 %, under the shape."""
    return lambda t: min(t / WARM_UP, shape(t)) if t < 1 else 0.0


def scheduled(make: Callable[[nn.Module, float, dict[str, Any]], Any], shape: Shape, clip: float | None = None) -> Make:
    """An optimizer under a shape, perhaps with its gradient clipped."""

    def trained(model: nn.Module, rate: float, steps: int, options: dict[str, Any]) -> Trained:
        optimizer = make(model, rate * options.get("scale", 1.0), options)
        schedule = LambdaLR(optimizer, lambda t: shape(min((t + (shape(0.0) == 0.0)) / steps, 1.0)))

        def step(_: Any, __: Tensor) -> None:
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            schedule.step()

        return Trained(optimizer, step)

    return trained


def sgd(model: nn.Module, rate: float, options: dict[str, Any]) -> torch.optim.Optimizer:
    """SGD with momentum .9."""
    return user_optimizer("sgd", model, rate, options)


def adamw(model: nn.Module, rate: float, options: dict[str, Any]) -> torch.optim.Optimizer:
    """AdamW without decay, unless there is some among the options."""
    return user_optimizer("adamw", model, rate, options)


def nadamw(model: nn.Module, rate: float, _: dict[str, Any]) -> torch.optim.Optimizer:
    """NAdam with decoupled decay, here none."""
    return torch.optim.NAdam(model.parameters(), lr=rate, betas=ADAM_BETAS, decoupled_weight_decay=True)


def calibrated(make: Callable[[nn.Module, float, dict[str, Any]], Any]) -> Make:
    """One rate for every workload, calibrated once on the development workloads: what a library could ship."""
    trained = scheduled(make, with_warm_up(cosine), CLIP)
    return lambda model, _, steps, options: trained(model, CALIBRATED, steps, options)


def range_tested(model: nn.Module, _: float, steps: int, options: dict[str, Any]) -> Trained:
    """A range test, then AdamW under a cosine at the rate that it says.

    The rate is raised exponentially on a copy of the model, one batch a step; the run then takes a tenth of the rate at
    which the smoothed loss was lowest (Smith 2017, §3.3; the tenth is Lightning's and fastai's custom). The test's
    steps are taken from the run's.
    """
    length = min(RANGE_STEPS, max(steps // 4, 1))
    test = RangeTest(copy.deepcopy(model), length)
    training: list[Trained] = []

    def step(batch: Any, value: Tensor) -> None:
        if not test.over:
            test.step(batch)
            return
        if not training:
            training.append(scheduled(adamw, cosine)(model, test.rate(), steps - length, options))
        training[0].step(batch, value)

    return Trained(model, step)


class RangeTest:
    """Raises the rate of AdamW exponentially, and remembers the loss at each."""

    def __init__(self, model: nn.Module, length: int) -> None:
        self._model, self._length = model, length
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=RANGE[0], betas=ADAM_BETAS, weight_decay=0.0)
        self._average = 0.0
        self._seen: list[tuple[float, float]] = []

    @property
    def over(self) -> bool:
        """All steps were taken."""
        return len(self._seen) >= self._length

    def step(self, batch: Any) -> None:
        """One step at the next rate."""
        rate = RANGE[0] * (RANGE[1] / RANGE[0]) ** (len(self._seen) / self._length)
        self._optimizer.param_groups[0]["lr"] = rate
        value = loss(self._model, batch)
        self._optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._average = 0.9 * self._average + 0.1 * float(value.detach())
        self._seen.append((self._average / (1 - 0.9 ** (len(self._seen) + 1)), rate))

    def rate(self) -> float:
        """A tenth of the rate at the lowest smoothed loss."""
        return min(pair for pair in self._seen if math.isfinite(pair[0]))[1] / 10


METHODS = (
    Method("sgd", scheduled(sgd, cosine), "SGD with momentum under a cosine", tuned=True, sgd=True),
    Method("adamw", scheduled(adamw, cosine), "AdamW under a cosine", tuned=True),
    Method(
        "sgd-warm-clip", scheduled(sgd, with_warm_up(cosine), CLIP), "the same with 5 % warm-up and clipping at 1",
        tuned=True, sgd=True,
    ),
    Method(
        "adamw-warm-clip", scheduled(adamw, with_warm_up(cosine), CLIP), "the same with 5 % warm-up and clipping at 1",
        tuned=True, revision=2,
    ),
    Method("adamw-linear", scheduled(adamw, linear_decay), "AdamW, linear decay (Defazio et al. 2023)", tuned=True),
    Method(
        "adamw-wsd", scheduled(adamw, with_warm_up(stable_then_decay)),
        "AdamW, warm-up–stable–decay (Hägele et al. 2024)", tuned=True,
    ),
    Method("adamw-calibrated", calibrated(adamw), "AdamW at one calibrated rate for all, as in arXiv 2505.24005"),
    Method("nadamw-calibrated", calibrated(nadamw), "NAdamW at one calibrated rate for all, as in arXiv 2505.24005"),
    Method("range-test", range_tested, "a learning-rate range test, then AdamW under a cosine (Smith 2017)"),
)  # fmt: skip
