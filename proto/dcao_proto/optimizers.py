"""Where the edge of stability lies for each optimizer.

A step on a quadratic of curvature ρ is stable while η·ρ is below a threshold that depends on the momentum only.
`edge_ratio = η·ρ / threshold` makes every optimizer comparable: 1 is the edge.

References:
    Cohen et al. 2021, "Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability", §2 and App. B
    (gradient descent, heavy ball, Nesterov); Cohen et al. 2022, "Adaptive Gradient Methods at the Edge of Stability",
    §2 (exponential-average momentum on the preconditioned Hessian).
"""

import sys
from typing import Literal

OptimizerName = Literal[
    "sgd",
    "nesterov",
    "adam",
    "adamw",
    "amsgrad",
    "nadam",
    "radam",
    "adamax",
    "rmsprop",
    "adagrad",
    "schedule_free_sgd",
    "schedule_free_adam",
    "schedule_free_muon",
    "other",
]

# v ← βv + g: the momentum buffer is a sum, so raising β raises the effective step η/(1−β).
HEAVY_BALL = frozenset({"sgd", "rmsprop"})
# m ← βm + (1−β)g: the buffer is an average and needs no such care.
AVERAGED = frozenset({"adam", "adamw", "amsgrad", "nadam", "radam", "adamax"})
# Schedule-free averaging: the gradient is taken at y between the iterate z and its average x. Their lr on the wire is
# how far *y* moves along the update, so that whatever the averaging weights are, 2/ρ is where y overshoots.
SCHEDULE_FREE = frozenset({"schedule_free_sgd", "schedule_free_adam", "schedule_free_muon"})
# For these ρ is the sharpness of the preconditioned Hessian P^-1/2 H P^-1/2.
PRECONDITIONED = AVERAGED | {"rmsprop", "adagrad", "schedule_free_adam", "schedule_free_muon"}


def sums_momentum(optimizer: OptimizerName) -> bool:
    """Whether the effective step is η/(1−β), so that momentum is a hidden learning rate."""
    return optimizer in HEAVY_BALL or optimizer == "nesterov"


def stochastic_threshold(optimizer: OptimizerName, momentum: float) -> float | None:
    """The value of η·(batch sharpness) at which small-batch training with summed momentum becomes unstable: 2(1−β).

    Batch sharpness is gᵀHg/gᵀg on the mini-batch. λ₁ of the full Hessian stays well below its own threshold there, by
    a factor that depends on the batch; batch sharpness does not (arXiv 2412.20553; with momentum, arXiv 2604.14108).

    Returns:
        2(1−β) for heavy ball and Nesterov, 2 without momentum; None for preconditioned optimizers.

    Not good for: full-batch training, whose threshold is 2(1+β).
    """
    return 2.0 * (1.0 - momentum) if optimizer in ("sgd", "nesterov") else None


def stability_threshold(optimizer: OptimizerName, momentum: float) -> float | None:
    """The value of η·ρ at which one eigen-direction of curvature ρ stops contracting.

    Args:
        optimizer: what the run trains with.
        momentum: β in [0, 1); β₁ for the Adam family.

    Returns:
        2(1+β) for heavy ball, 2(1+β)/(1+2β) for Nesterov, 2(1+β₁)/(1−β₁) for averaged momentum, 2 for Adagrad and for
        the step of y under schedule-free averaging; None for optimizers without a known threshold.

    Not good for: small batches, where the edge is one of batch sharpness and may lie at 2(1−β) (arXiv 2604.14108).

    Example:
        >>> round(stability_threshold("sgd", 0.9), 9), round(stability_threshold("adam", 0.9), 9)
        (3.8, 38.0)
    """
    if optimizer in HEAVY_BALL:
        return 2.0 * (1.0 + momentum)
    if optimizer == "nesterov":
        return 2.0 * (1.0 + momentum) / (1.0 + 2.0 * momentum)
    if optimizer in AVERAGED:
        return 2.0 * (1.0 + momentum) / (1.0 - momentum)
    return 2.0 if optimizer == "adagrad" or optimizer in SCHEDULE_FREE else None


def edge_ratio(optimizer: OptimizerName, lr: float, momentum: float, rho: float | None) -> float | None:
    """e = η·ρ/threshold, kept finite; None without a spectrum or a threshold."""
    threshold = stability_threshold(optimizer, momentum)
    if rho is None or threshold is None:
        return None
    ratio = lr * (rho / threshold)
    return min(max(ratio, -sys.float_info.max), sys.float_info.max)
