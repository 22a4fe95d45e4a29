"""Every method by name: ours, what people use, peers without a rate, and others that look at curvature."""

from dcao_experiments.methods import ablations, curvature, matrix, ours, parameter_free, schedules
from dcao_experiments.methods.method import Method, Trained

METHODS: dict[str, Method] = {
    method.name: method
    for part in (ours, schedules, matrix, parameter_free, curvature, ablations)
    for method in part.METHODS
}

__all__ = ["METHODS", "Method", "Trained"]
