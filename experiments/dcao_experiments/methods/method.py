"""What a method is: it makes, from a model, a rate and a length, something that trains the model."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from dcao_client import Attachment

WARM_UP = 0.05  # share of the steps, where a peer's authors ask for one
ADAM_BETAS = (0.9, 0.99)  # of every AdamW here: runs are short, .999 would remember all of one


@dataclass
class Trained:
    """What a method made for one run.

    Attributes:
        optimizer: has `zero_grad`.
        step: one update after the backward pass, given the batch and its loss.
        use, go_on: put the weights to be used into the model, and those to be trained back.
        before: called with the batch before the backward pass.
        control: ours, for what the probes cost and what they saw.
        extra: gradients spent so far beside one a step, in gradients of a whole batch; a forward pass is a third.
    """

    optimizer: Any
    step: Callable[[Any, Tensor], Any]
    use: Callable[[], Any] = field(default=lambda: None)
    go_on: Callable[[], Any] = field(default=lambda: None)
    before: Callable[[Any], Any] = field(default=lambda _: None)
    control: Attachment | None = None
    extra: Callable[[], float] = field(default=lambda: 0.0)


Make = Callable[[nn.Module, float, int, dict[str, Any]], Trained]


@dataclass(frozen=True)
class Method:
    """How a name trains.

    Attributes:
        make: (model, rate, steps, options) → what trains.
        about: one sentence for `dcao experiment list`, with the source.
        tuned: it needs a rate, and gets the best of a grid; without, one setting serves all.
        sgd: its rates are those of SGD, not of AdamW.
        package, module: what it is installed and imported as; None: nothing beside torch and ours.
        placebo_of: takes the factors of that method's run on the same seed, shuffled, from `options["factors"]`.
        revision: raised when `make` changes what a run ends at, so that a file goes on with what is now.
    """

    name: str
    make: Make
    about: str
    tuned: bool = False
    sgd: bool = False
    package: str | None = None
    module: str | None = None
    placebo_of: str | None = None
    revision: int = 1

    def installed(self) -> bool:
        """Whether it can run here."""
        return self.module is None or importlib.util.find_spec(self.module) is not None
