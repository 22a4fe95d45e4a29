"""The trainings that the demo compares: one network, one order of batches, and a learning rate from somewhere.

The rate `tuned` is the best of 0.001, 0.002, 0.004, 0.008 and 0.016, by the mean test accuracy of seeds 0 to 2 after
500 steps.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from dcao_client import DCAO, Attachment, attach
from dcao_experiments.data import Images
from dcao_experiments.models import SmallViT
from dcao_experiments.training import StepReport, accuracy, batches, cross_entropy, train
from dcao_proto.run import Trust

BATCH = 64
LOOKS = 20  # at the test images along a run
LOOKED_AT = 1000  # test images on each of them; the last look is at all
SPIKE, SPIKE_FROM, SPIKE_TO = 16.0, 0.4, 0.48  # factor on the schedule, and where, as shares of the run


@dataclass(frozen=True)
class Contestant:
    """How one training gets its learning rate.

    Attributes:
        name: what tables and pictures call it.
        lr: peak of AdamW's cosine; None: `DCAO(model, loss)`, which has neither.
        trust: of `attach`; None: nobody attached.
        spike: whether the schedule goes wrong for a while in mid-run.
    """

    name: str
    lr: float | None
    trust: Trust | None = None
    spike: bool = False


@dataclass
class Trace:
    """What a training did.

    Attributes:
        losses, rates: of every step; the rates are those in use.
        looks: (step, test accuracy).
        probes: (step, sharpness ρ, ceiling), where there is one.
        accuracy: in the end, on all test images.
        seconds: of training alone, and of that `probing`.
    """

    steps: int
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    looks: list[tuple[int, float]] = field(default_factory=list)
    probes: list[tuple[int, float, float | None]] = field(default_factory=list)
    accuracy: float = 0.0
    seconds: float = 0.0
    probing: float = 0.0

    @property
    def overhead(self) -> float:
        """Share of the training's time that probes took."""
        return self.probing / self.seconds if self.seconds else 0.0


def run(
    contestant: Contestant, images: Images, steps: int, seed: int, url: str, show: Callable[[Trace], None]
) -> Trace:
    """Trains once and looks at the test images along the way."""
    torch.manual_seed(seed)
    model = SmallViT(images.x.shape[-1])
    optimizer, scheduler, control = _optimizer(contestant, model, steps, url)
    trace = Trace(steps)
    began = time.perf_counter()
    spent = 0.0  # on looking
    attached = None if isinstance(optimizer, DCAO) else control
    for report in train(model, optimizer, batches(images, BATCH, steps, seed), dcao=attached, scheduler=scheduler):
        _note(trace, report, optimizer, control)
        if report.step % max(steps // LOOKS, 1) == 0:
            looking = time.perf_counter()
            trace.looks.append((report.step, _look(model, optimizer, images, LOOKED_AT)))
            show(trace)
            spent += time.perf_counter() - looking
    trace.seconds = time.perf_counter() - began - spent
    trace.accuracy = _look(model, optimizer, images, len(images.y_test))
    trace.looks.append((steps, trace.accuracy))
    if control is not None:
        control.finish()
    show(trace)
    return trace


def _optimizer(
    contestant: Contestant, model: SmallViT, steps: int, url: str
) -> tuple[Optimizer, LambdaLR | None, Attachment | None]:
    name = "demo-" + "".join(c if c.isalnum() else "-" for c in contestant.name.lower().replace("÷", "d")).strip("-")
    labels = {"demo": contestant.name}
    if contestant.lr is None:
        ours = DCAO(model, cross_entropy, run=name, url=url, labels=labels)
        return ours, None, ours.control
    optimizer = AdamW(model.parameters(), lr=contestant.lr)

    def shape(step: int) -> float:
        wrong = contestant.spike and SPIKE_FROM <= step / steps < SPIKE_TO
        return (SPIKE if wrong else 1.0) * 0.5 * (1.0 + math.cos(math.pi * step / steps))

    control = None
    if contestant.trust is not None:
        control = attach(model, optimizer, cross_entropy, trust=contestant.trust, run=name, url=url, labels=labels)
    return optimizer, LambdaLR(optimizer, shape), control


def _note(trace: Trace, report: StepReport, optimizer: Optimizer, control: Attachment | None) -> None:
    trace.losses.append(report.loss)
    trace.rates.append(report.applied.lr if report.applied is not None else float(optimizer.param_groups[0]["lr"]))
    if control is None or not report.probed or control.spectrum is None or control.decision is None:
        return
    trace.probing += control.spectrum.seconds
    if control.spectrum.rho is not None:
        trace.probes.append((report.step, control.spectrum.rho, control.decision.ceiling))


def _look(model: SmallViT, optimizer: Optimizer, images: Images, count: int) -> float:
    """Test accuracy at the point that is to be used, after which training goes on."""
    if isinstance(optimizer, DCAO):
        optimizer.eval()
    found = accuracy(model, images.x_test[:count], images.y_test[:count])
    if isinstance(optimizer, DCAO):
        optimizer.train()
    return found
