"""Every run metric: name, type, help, and where its value comes from. docs/metrics.md is checked against this table.

Labels are `project` and `run` only; text is in `dcao_run_info`. A value that the newest record does not have is left
out, so a graph shows a gap and not the last value for ever.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from dcao_proto import Record
from dcao_server.metrics.run_snapshot import RunSnapshot

Kind = Literal["gauge", "counter"]


class Family(NamedTuple):
    """One metric with one sample for each run."""

    name: str
    kind: Kind
    help: str
    value: Callable[[RunSnapshot], float | None]


def _observed(name: str) -> Callable[[RunSnapshot], float | None]:
    return lambda s: None if s.record is None else getattr(s.record.observation, name)


def _decided(name: str) -> Callable[[RunSnapshot], float | None]:
    return lambda s: None if s.record is None else getattr(s.record.decision, name)


def _multiplier(name: str) -> Callable[[RunSnapshot], float | None]:
    return lambda s: None if s.record is None else getattr(s.record.decision.multipliers, name)


def _base(name: str) -> Callable[[RunSnapshot], float | None]:
    def value(s: RunSnapshot) -> float | None:
        base = s.spec.base if s.record is None or s.record.observation.base is None else s.record.observation.base
        found: float = getattr(base, name)
        return found

    return value


def _probe(name: str) -> Callable[[RunSnapshot], float | None]:
    def value(s: RunSnapshot) -> float | None:
        if s.record is None or s.record.observation.probe is None:
            return None
        found: float | None = getattr(s.record.observation.probe, name)
        return found

    return value


def _of_record(read: Callable[[Record], float]) -> Callable[[RunSnapshot], float | None]:
    return lambda s: None if s.record is None else read(s.record)


FAMILIES: tuple[Family, ...] = (
    Family(
        "dcao_run_sharpness",
        "gauge",
        "Sharpness ρ: largest algebraic eigenvalue of the loss Hessian (preconditioned for the Adam family).",
        _observed("rho"),
    ),
    Family(
        "dcao_run_sharpness_limit",
        "gauge",
        "Sharpness at which the learning rate in force meets the edge of stability: threshold / η.",
        lambda s: s.sharpness_limit,
    ),
    Family("dcao_run_spectral_gap", "gauge", "Spectral gap γ = λ₁ − λ₂, unit of ρ.", _observed("gamma")),
    Family("dcao_run_lambda_min", "gauge", "Smallest algebraic eigenvalue, unit of ρ.", _observed("lambda_min")),
    Family(
        "dcao_run_batch_sharpness",
        "gauge",
        "Curvature along the gradient, gᵀHg / gᵀg on the probe batch, unit of ρ.",
        _observed("batch_sharpness"),
    ),
    Family(
        "dcao_run_edge_ratio",
        "gauge",
        "η·ρ / threshold with the decided values; 1 is the edge of stability.",
        _decided("edge_ratio"),
    ),
    Family(
        "dcao_run_batch_edge_ratio",
        "gauge",
        "η·(batch sharpness) / 2(1−β) with the decided values; 1 is the edge for small batches.",
        lambda s: s.batch_edge_ratio,
    ),
    Family("dcao_run_learning_rate", "gauge", "Learning rate η decided.", _decided("lr")),
    Family("dcao_run_momentum", "gauge", "Momentum β decided (β₁ for the Adam family).", _decided("momentum")),
    Family("dcao_run_weight_decay", "gauge", "Weight decay λ decided.", _decided("weight_decay")),
    Family("dcao_run_base_learning_rate", "gauge", "Learning rate without DCAO, as scheduled.", _base("lr")),
    Family("dcao_run_base_momentum", "gauge", "Momentum without DCAO, as scheduled.", _base("momentum")),
    Family("dcao_run_base_weight_decay", "gauge", "Weight decay without DCAO, as scheduled.", _base("weight_decay")),
    Family("dcao_run_learning_rate_multiplier", "gauge", "Factor f on the base learning rate.", _multiplier("lr")),
    Family("dcao_run_momentum_multiplier", "gauge", "Factor g on the base momentum.", _multiplier("momentum")),
    Family(
        "dcao_run_weight_decay_multiplier", "gauge", "Factor h on the base weight decay.", _multiplier("weight_decay")
    ),
    Family("dcao_run_loss", "gauge", "Mean training loss at the newest observation.", _observed("loss")),
    Family("dcao_run_gradient_norm", "gauge", "Euclidean norm of the gradient.", _observed("grad_norm")),
    Family("dcao_run_step", "gauge", "Optimizer step of the newest decision.", _of_record(lambda r: r.step)),
    Family("dcao_run_attempt", "gauge", "Attempt that owns the run; rises by a restart.", lambda s: s.stored.attempt),
    Family(
        "dcao_run_loss_variance",
        "gauge",
        "Rolling variance of the loss over the newest observations.",
        lambda s: s.state.loss.variance if s.state.loss.count else None,
    ),
    Family(
        "dcao_run_sharpness_variance",
        "gauge",
        "Rolling variance of ρ over the newest observations: the stability metric.",
        lambda s: s.state.rho.variance if s.state.rho.count else None,
    ),
    Family(
        "dcao_run_decisions_at_bound_total",
        "counter",
        "Decisions with the learning-rate factor at a bound.",
        lambda s: s.state.at_bound_total,
    ),
    Family(
        "dcao_run_decisions_at_bound_in_a_row",
        "gauge",
        "Newest decisions in a row with the learning-rate factor at a bound.",
        lambda s: s.state.at_bound,
    ),
    Family("dcao_run_probe_duration_seconds", "gauge", "Seconds of the newest probe.", _probe("seconds")),
    Family("dcao_run_probe_products", "gauge", "Hessian-vector products of the newest probe.", _probe("matvecs")),
    Family(
        "dcao_run_probe_overhead_ratio",
        "gauge",
        "Share of the run's wall-clock time that probes took so far.",
        _probe("overhead"),
    ),
    Family(
        "dcao_run_last_observation_timestamp_seconds",
        "gauge",
        "When the newest record was made, controller's clock.",
        _of_record(lambda r: r.recorded_at),
    ),
    Family("dcao_run_stale", "gauge", "1 while observations are overdue.", lambda s: int(s.stale)),
    Family(
        "dcao_run_diverged",
        "gauge",
        "1 while the newest observation says that the run diverged.",
        lambda s: None if s.record is None else int(s.record.observation.status == "diverged"),
    ),
)
INFO = "dcao_run_info"
INFO_HELP = "What the run is: always 1, text in the labels."
DECISIONS = "dcao_run_decisions_total"
DECISIONS_HELP = "Observations answered, by what became of them."
OUTCOMES = ("decided", "replayed", "healed", "backfilled", "fenced", "stale")
REASONS = "dcao_run_decision_reasons_total"
REASONS_HELP = "Reason codes in the run's decisions; codes that did not occur are absent."
