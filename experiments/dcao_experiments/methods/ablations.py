"""The proposal's own law with parts taken out, other maps, other probes; and its factors shuffled in time.

Each is SGD with momentum under a cosine with the law's bounds of [½, 2], as §2.3 has it, with decay, so that there is
something for h to scale. `law-placebo` takes the factors that `law` took on the same seed, in another order: what is
left of the law without its timing.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from dcao_client.spectrum import ProbeSettings
from dcao_experiments.methods.method import Make, Method, Trained
from dcao_experiments.methods.ours import attached
from dcao_experiments.methods.schedules import cosine, scheduled, sgd

DECAY = 5e-4
INTERVAL = 20  # the proposal's T_c = 100 would be five probes in these runs
OFF: dict[str, dict[str, float]] = {"f": {"alpha": 0.0}, "g": {"kappa": 0.0}, "h": {"mu": 0.0}}


def law(parts: str = "fgh", policy: str = "paper", interval: int = INTERVAL, **fixed: Any) -> Make:
    """The proposal's law with some of f, g and h."""
    params = dict(fixed.pop("params", {}))
    for part, off in OFF.items():
        params |= {} if part in parts or policy != "paper" else off
    made = attached("sgd", policy, params, probe_interval=interval, **fixed)
    return lambda model, rate, steps, options: made(model, rate, steps, {"decay": DECAY, **options})


def placebo(model: nn.Module, rate: float, steps: int, options: dict[str, Any]) -> Trained:
    """SGD under a cosine whose rate at step t is multiplied by the t-th of the given factors."""
    factors: list[float] = options["factors"]
    made = scheduled(sgd, cosine)(model, rate, steps, {"decay": DECAY})
    taken = iter(factors)

    def before(_: Any) -> None:
        factor = next(taken, 1.0)
        for group in made.optimizer.param_groups:
            group["lr"] *= factor  # the schedule writes the rate anew after every step

    made.before = before
    return made


def _method(name: str, make: Make, about: str, **more: Any) -> Method:
    return Method(name, make, about, tuned=True, sgd=True, **more)


METHODS = (
    _method("law", law(), "the proposal's f, g and h, T_c = 20, m = 20"),
    _method("law-f", law("f"), "its learning rate alone"),
    _method("law-g", law("g"), "its momentum alone"),
    _method("law-h", law("h"), "its weight decay alone"),
    _method("law-fg", law("fg"), "without weight decay"),
    _method("law-fh", law("fh"), "without momentum"),
    _method("law-gh", law("gh"), "without learning rate"),
    _method("law-linear", law(policy="linear"), "a straight line instead of the exponential"),
    _method("law-power", law(policy="power"), "a power law instead of the exponential"),
    _method("law-edge", law(policy="edge"), "the edge of stability as the reference"),
    _method("law-half-alpha", law(params={"rho_ref": None, "calibration_probes": 10}), "a later reference"),
    _method("law-rare", law(interval=5 * INTERVAL), "T_c = 100"),
    _method("law-often", law(interval=5), "T_c = 5"),
    _method("law-short", law(probe=ProbeSettings(max_matvecs=5)), "m = 5"),
    _method("law-small-batch", law(probe=ProbeSettings(probe_batch=16)), "B = 16"),
    _method("law-placebo", placebo, "the law's own factors, shuffled in time", placebo_of="law"),
)
