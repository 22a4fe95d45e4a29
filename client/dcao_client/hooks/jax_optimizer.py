"""A gradient transformation under control: what `hooks/optax.py` gives back."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from dcao_client.hooks.attachment import Attachment
from dcao_client.hooks.jax_control import Steers
from dcao_client.hooks.jax_path import Averaged, average
from dcao_client.spectrum.jax.tree import split


class Optimizer(optax.GradientTransformationExtraArgs):
    """A gradient transformation under control.

    Attributes:
        control: the talk with the controller: `.decision`, `.spectrum`, `.session`, `finish()`. Its `state_dict()`
            belongs into a checkpoint beside parameters and optimizer state.
    """

    control: Attachment
    steers: Steers

    def step(self, state: Any, params: Any, batch: Any = None) -> Any:
        """The state to go on with. Call it before each update, with the batch that the update is for."""
        found = self.steers.step(self.control, state, params, batch)
        self.steers.steps += 1
        return state if found is None else found


class Averaging(Optimizer):
    """One that trains at y; what is to be used is the average x."""

    averaging: float

    def average(self, state: Averaged, params: Any) -> Any:
        """What to evaluate, and to save for use: the average x, while training goes on at y."""
        y, staying, layout = split(params)
        x = average([p.astype(jnp.float32) for p in y], state.z, self.averaging)
        return layout.whole([a.astype(p.dtype) for a, p in zip(x, y, strict=True)], staying)
