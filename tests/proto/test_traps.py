"""The traps of a curvature-to-hyperparameter law, each shown without its cure and with it."""

import itertools
import math
from typing import Any

import pytest

from dcao_proto import Hyperparameters, Observation, PolicyChoice, ProbeReport, RunSpec, stability_threshold
from dcao_proto.decision import Decision
from dcao_proto.policy import PolicyState, bind

BASE = Hyperparameters(lr=0.1, momentum=0.9, weight_decay=5e-4)


def run_of(policy: str = "power", optimizer: str = "sgd", base: Hyperparameters = BASE, **params: Any) -> RunSpec:
    return RunSpec(optimizer=optimizer, base=base, policy=PolicyChoice(name=policy, params=params))


def decide_all(spec: RunSpec, observations: list[Observation]) -> list[Decision]:
    bound, state, decisions = bind(spec), PolicyState(), []
    for version, observation in enumerate(observations):
        decision = bound.decide(observation, state, version)
        state = bound.state_of(decision.state)
        decisions.append(decision)
    return decisions


def seen(step: int, rho: float, gamma: float = 1.0, **more: Any) -> Observation:
    return Observation(step=step, rho=rho, gamma=gamma, **more)


def at_the_edge(spec: RunSpec, edge: float, probes: int = 60) -> list[Decision]:
    """A run whose curvature answers the learning rate: ρ = edge·η₀/η, quasi-static."""
    bound, state, decisions, factor = bind(spec), PolicyState(), [], 1.0
    for i in range(probes):
        decision = bound.decide(seen(100 * i, edge / factor), state, i)
        state, factor = bound.state_of(decision.state), decision.multipliers.lr
        decisions.append(decision)
    return decisions


# -- momentum beyond 1 --------------------------------------------------------------------------------------------


def test_the_literal_momentum_would_exceed_one_and_is_capped_with_a_reason():
    """β₀·g reaches 1.8 for β₀ = 0.9; the decision stays at the cap and says so."""
    spec = run_of("paper", rho_ref=10.0, gamma_ref=1.0, kappa=100.0)
    decision = decide_all(spec, [seen(0, 10.0, 2.0)])[0]
    assert BASE.momentum * (1 + math.tanh(100.0)) > 1.7
    assert decision.momentum == 0.99
    assert "clamped:momentum" in decision.reasons


@pytest.mark.parametrize(("gain", "momentum"), [(0.5, 0.8), (1.0, 0.9), (2.0, 0.95)])
def test_on_the_horizon_a_gain_scales_the_memory(gain, momentum):
    """β = 1 − (1−β₀)/g: 0.8, 0.9, 0.95 for g = ½, 1, 2."""
    from dcao_proto.hyperparameters import Bounds
    from dcao_proto.policy.momentum import compose_momentum

    assert compose_momentum(0.9, gain, Bounds(), literal=False).value == pytest.approx(momentum, rel=1e-15)


def test_momentum_is_a_hidden_learning_rate_unless_the_effective_step_is_kept():
    """With `preserve_effective_lr` η/(1−β) stays; without it a larger β raises it."""
    observations = [seen(100 * i, 10.0, 1.0) for i in range(5)] + [seen(500, 10.0, 3.0)]
    for keep in (False, True):
        spec = run_of("power", rho_ref=10.0, kappa=1.0, preserve_effective_lr=keep)
        last = decide_all(spec, observations)[-1]
        assert last.momentum > BASE.momentum
        effective, before = last.lr / (1 - last.momentum), BASE.lr / (1 - BASE.momentum)
        assert (effective == pytest.approx(before)) is keep


def test_averaged_momentum_needs_no_compensation():
    """Adam's buffer is an average: `preserve_effective_lr` leaves its learning rate alone."""
    observations = [seen(100 * i, 10.0, 1.0) for i in range(5)] + [seen(500, 10.0, 3.0)]
    spec = run_of("power", optimizer="adam", rho_ref=10.0, kappa=1.0, preserve_effective_lr=True)
    assert decide_all(spec, observations)[-1].multipliers.lr == 1.0


# -- scale ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["linear", "paper", "power"])
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_a_change_of_units_changes_nothing(policy, unit):
    """Sensitivities that are not given are relative to the reference; a fixed α would saturate."""
    curvatures = [10.0, 11.0, 9.0, 10.5, 10.0, 14.0, 8.0]
    plain = decide_all(run_of(policy), [seen(100 * i, r, 0.3 * r) for i, r in enumerate(curvatures)])
    scaled = decide_all(run_of(policy), [seen(100 * i, unit * r, unit * 0.3 * r) for i, r in enumerate(curvatures)])
    for a, b in zip(plain, scaled, strict=True):
        assert b.multipliers.lr == pytest.approx(a.multipliers.lr)
        assert b.momentum == pytest.approx(a.momentum)
    fixed = run_of("paper", alpha=0.1, rho_ref=1e7, gamma_ref=1e7)
    assert decide_all(fixed, [seen(0, 1.001e7, 1e7)])[0].multipliers.lr == 0.5


# -- loop gain ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edge_over_reference", [1.2, 1.6])
def test_the_exponential_law_pins_itself_and_warns_where_the_power_law_does_not(edge_over_reference):
    """With α·ρ > 1 at the edge, `paper` halves the learning rate for ever; elasticity ½ finds an interior value."""
    pinned = at_the_edge(run_of("paper", rho_ref=10.0, gamma_ref=1.0), edge=10.0 * edge_over_reference)
    assert all(d.multipliers.lr == 0.5 for d in pinned[20:])
    assert "warn:loop-gain" in pinned[-1].reasons
    assert "warn:saturated" in pinned[-1].reasons
    free = at_the_edge(run_of("power", rho_ref=10.0, smoothing=0.8), edge=10.0 * edge_over_reference)
    expected = 1 / edge_over_reference  # m = (s/m)^−½ ⇒ m = 1/s
    assert free[-1].multipliers.lr == pytest.approx(expected, rel=0.02)
    assert "warn:loop-gain" not in free[-1].reasons


def test_the_edge_law_settles_inside_its_bounds_for_every_sensible_target():
    """Where ρ = threshold/η, `edge` settles at f = target^(p/(1−p)) = target for p = ½."""
    threshold = stability_threshold("sgd", 0.9)
    for target in (0.6, 1.0, 1.6):
        spec = run_of("edge", target=target, smoothing=0.8)
        assert at_the_edge(spec, edge=threshold / BASE.lr)[-1].multipliers.lr == pytest.approx(target, rel=0.02)


def test_in_small_batches_the_edge_is_one_of_batch_sharpness():
    """λ₁ far below its edge says "faster" where η·(batch sharpness) = 2(1−β) says "not faster"."""
    threshold = 2 * (1 - BASE.momentum)
    small = [seen(100 * i, 0.1 * 3.8 / BASE.lr, batch_sharpness=threshold / BASE.lr) for i in range(8)]
    assert decide_all(run_of("edge"), small)[-1].multipliers.lr == 2.0
    assert decide_all(run_of("edge", reference="nearest_edge"), small)[-1].multipliers.lr == pytest.approx(1.0)


def test_in_full_batches_the_edge_is_one_of_the_top_eigenvalue():
    """Batch sharpness swings by orders of magnitude there; λ₁ at its edge decides."""
    full = [seen(100 * i, 3.8 / BASE.lr, batch_sharpness=10.0 ** -(i % 4)) for i in range(8)]
    assert decide_all(run_of("edge", reference="nearest_edge"), full)[-1].multipliers.lr == pytest.approx(1.0)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_without_batch_sharpness_or_for_adam_the_nearest_edge_is_the_edge(optimizer):
    """Adam's ρ is preconditioned and its batch sharpness is not: only λ₁ counts."""
    sharpness = None if optimizer == "sgd" else 100.0
    observations = [seen(100 * i, 20.0 + i, batch_sharpness=sharpness) for i in range(5)]
    nearest = decide_all(run_of("edge", optimizer=optimizer, reference="nearest_edge"), observations)
    plain = decide_all(run_of("edge", optimizer=optimizer), observations)
    for a, b in zip(nearest, plain, strict=True):
        assert a.multipliers.lr == pytest.approx(b.multipliers.lr)


# -- double decay ---------------------------------------------------------------------------------------------------


def under_a_schedule(spec: RunSpec) -> float:
    """Mean factor over the middle of a cosine schedule along which ρ follows the edge, calibrated at its start."""
    threshold = stability_threshold("sgd", 0.9)
    observations = [seen(10 * i, threshold / BASE.lr) for i in range(5)]
    for i in range(30):
        lr = BASE.lr * 0.5 * (1 + math.cos(math.pi * i / 40))
        observations.append(seen(100 + 10 * i, threshold / lr, base=BASE.model_copy(update={"lr": lr})))
    factors = [d.multipliers.lr for d in decide_all(spec, observations)]
    return sum(factors[20:]) / len(factors[20:])


def test_a_static_reference_decays_twice_under_a_schedule_and_the_others_do_not():
    """As η₀ falls the edge rises and ρ with it: only a reference that moves along leaves the schedule alone."""
    assert under_a_schedule(run_of("power", reference="static")) < 0.8
    assert under_a_schedule(run_of("power", reference="schedule")) == pytest.approx(1.0, abs=0.01)
    assert under_a_schedule(run_of("edge")) == pytest.approx(1.0, abs=0.01)


def test_a_multiplier_applies_to_the_base_never_to_an_adjusted_value():
    """The same observation decided twenty times gives the same value, not a power of it."""
    spec = run_of("power", rho_ref=10.0)
    decisions = decide_all(spec, [seen(100 * i, 14.0) for i in range(20)])
    assert {d.lr for d in decisions} == {decisions[0].lr}


# -- weight decay ---------------------------------------------------------------------------------------------------


def test_the_literal_weight_decay_is_not_neutral_at_the_reference_and_the_centred_one_is():
    """h(ρ_ref) is 1 + μ in the letter, 1 when centred; only the centred form can fall below 1."""
    literal = run_of("power", rho_ref=10.0, mu=0.5, weight_decay_form="literal")
    centred = run_of("power", rho_ref=10.0, mu=0.5)
    assert decide_all(literal, [seen(0, 10.0)])[0].multipliers.weight_decay == 1.5
    assert decide_all(centred, [seen(0, 10.0)])[0].multipliers.weight_decay == 1.0
    assert decide_all(literal, [seen(0, 2.0)])[0].multipliers.weight_decay > 1
    assert decide_all(centred, [seen(0, 2.0)])[0].multipliers.weight_decay < 1


# -- negative curvature ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["edge", "linear", "power"])
@pytest.mark.parametrize("rho", [-50.0, 0.0])
def test_negative_curvature_never_speeds_a_run_up(policy, rho):
    """At ρ ≤ 0 the letter doubles the learning rate; every other law leaves it at most where it is."""
    spec = run_of(policy, rho_ref=10.0, gamma_ref=1.0)
    decision = decide_all(spec, [seen(0, rho)])[0]
    assert decision.multipliers.lr <= 1
    assert decision.regime == "flat"
    assert "negative-curvature" in decision.reasons
    letter = decide_all(run_of("paper", rho_ref=10.0, gamma_ref=1.0), [seen(0, rho)])[0]
    assert letter.multipliers.lr == 2.0


def test_one_vanishing_curvature_does_not_drag_the_average_down():
    """ln ρ is floored at a thousandth of the reference."""
    spec = run_of("power", rho_ref=10.0, smoothing=0.8)
    decisions = decide_all(spec, [seen(0, 10.0), seen(100, 1e-200), *[seen(200 + 100 * i, 10.0) for i in range(12)]])
    assert decisions[-1].multipliers.lr == pytest.approx(1.0, abs=0.06)


# -- bad probes -----------------------------------------------------------------------------------------------------


def test_a_probe_with_a_wide_bound_holds_and_the_same_with_a_narrow_one_moves():
    """A Ritz bound above 10 % of ρ holds everything."""
    spec = run_of("power", rho_ref=10.0)
    held, moved = (decide_all(spec, [seen(0, 30.0, rho_bound=bound)])[0] for bound in (5.0, 0.1))
    assert (held.regime, held.multipliers.lr, held.reasons) == ("held", 1.0, ("held:residual",))
    assert moved.multipliers.lr < 1


def test_a_ghost_gap_holds_the_momentum_only():
    """γ with a bound of its own size says nothing: the momentum stays, the learning rate moves."""
    spec = run_of("power", rho_ref=10.0, gamma_ref=1.0, kappa=1.0)
    held, moved = (decide_all(spec, [seen(0, 30.0, 3.0, gamma_bound=bound)])[0] for bound in (2.9, 0.01))
    assert held.momentum == BASE.momentum
    assert held.multipliers.lr < 1
    assert "held:gap" in held.reasons
    assert moved.momentum > BASE.momentum


def test_one_outlier_is_held_and_the_third_in_a_row_is_a_new_regime():
    """A tenfold ρ once is noise; three times it is the truth. Without the test the first already moves the run."""
    steady = [seen(100 * i, 10.0 + 0.1 * (i % 3)) for i in range(9)]
    jump = [seen(900 + 100 * i, 100.0) for i in range(3)]
    guarded = decide_all(run_of("power", rho_ref=10.0, reject_outliers=True), steady + jump)
    naive = decide_all(run_of("power", rho_ref=10.0), steady + jump)
    assert naive[9].multipliers.lr == 0.5
    assert [d.multipliers.lr for d in guarded[9:11]] == [guarded[8].multipliers.lr] * 2
    assert guarded[11].multipliers.lr == 0.5
    assert "regime-change" in guarded[11].reasons


def test_smoothing_damps_noise():
    """With 30 % noise in ρ the smoothed law moves less than half as much."""
    noisy = [seen(100 * i, 10.0 * math.exp(0.3 * math.sin(2.4 * i))) for i in range(40)]

    def travel(spec: RunSpec) -> float:
        factors = [d.multipliers.lr for d in decide_all(spec, noisy)][10:]
        return sum(abs(math.log(b / a)) for a, b in itertools.pairwise(factors))

    assert travel(run_of("power", rho_ref=10.0, smoothing=0.8)) < travel(run_of("power", rho_ref=10.0)) / 2


def test_fingerprints_are_never_mixed():
    """A new fingerprint starts the calibration anew; the old reference would read as five times too sharp."""
    before = [seen(100 * i, 10.0, probe=ProbeReport(fingerprint="train")) for i in range(6)]
    after = [seen(600 + 100 * i, 50.0, probe=ProbeReport(fingerprint="eval")) for i in range(6)]
    decisions = decide_all(run_of("power"), before + after)
    assert "recalibrate:fingerprint" in decisions[6].reasons
    assert decisions[6].regime == "calibrating"
    assert decisions[-1].multipliers.lr == 1.0
    mixed = decide_all(run_of("power"), [o.model_copy(update={"probe": None}) for o in before + after])
    assert mixed[-1].multipliers.lr < 0.5 + 1e-9


# -- steadiness -----------------------------------------------------------------------------------------------------


def test_dead_band_and_slew_limit_leave_reasons_and_do_what_they_say():
    """Changes below 5 % are not made, larger ones at most a factor of 1.25 at a time."""
    spec = run_of("power", rho_ref=10.0, dead_band=0.05, slew=1.25)
    small, large = decide_all(spec, [seen(0, 10.5)])[0], decide_all(spec, [seen(0, 30.0)])[0]
    assert (small.multipliers.lr, "dead-band:lr" in small.reasons) == (1.0, True)
    assert (large.multipliers.lr, "slew:lr" in large.reasons) == (pytest.approx(0.8), True)


def test_far_beyond_the_edge_the_learning_rate_falls_at_once():
    """Above an edge ratio of 2 the slew limit would cost the run."""
    threshold = stability_threshold("sgd", 0.9)
    spec = run_of("edge", slew=1.25)
    decision = decide_all(spec, [seen(0, 3 * threshold / BASE.lr)])[0]
    assert decision.multipliers.lr == pytest.approx(3**-0.5)
    assert "fast:lr" in decision.reasons


# -- calibration ----------------------------------------------------------------------------------------------------


def test_the_reference_is_the_median_after_the_warm_up():
    """Probes of the warm-up do not count, one outlier among five does not matter, and until then nothing moves."""
    spec = run_of("power", warmup_steps=300, calibration_spread=5.0)
    decisions = decide_all(spec, [seen(100 * i, r) for i, r in enumerate([90, 80, 70, 10, 10, 12, 11, 40, 11])])
    assert [d.regime == "calibrating" for d in decisions] == [True] * 7 + [False] * 2
    assert "calibrated" in decisions[7].reasons
    assert decisions[8].multipliers.lr == pytest.approx(1.0)
    rushed = decide_all(
        run_of("power", calibration_spread=5.0), [seen(100 * i, r) for i, r in enumerate([90, 80, 70, 60, 10, 10])]
    )
    assert rushed[-1].multipliers.lr == 2.0


def test_an_unsettled_curvature_is_not_taken_as_reference():
    """While ln ρ spreads by more than 0.3 the calibration goes on, but not for ever."""
    settling = [100.0, 60.0, 40.0, 30.0, 25.0, 22.0, 21.0, 20.5, 20.0, 20.0]
    decisions = decide_all(run_of("power"), [seen(100 * i, r) for i, r in enumerate(settling)])
    assert decisions[4].regime == "calibrating"
    assert decisions[-1].regime != "calibrating"
    assert 0.9 < decisions[-1].multipliers.lr < 1.1
    rising = decide_all(run_of("power"), [seen(100 * i, 10.0 * 2.0**i) for i in range(21)])
    assert rising[-1].regime != "calibrating"


# -- optimizers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "threshold"),
    [("sgd", 3.8), ("nesterov", 3.8 / 2.8), ("adam", 38.0), ("rmsprop", 3.8), ("adagrad", 2.0)],
)
def test_the_edge_depends_on_the_optimizer(optimizer, threshold):
    """The same curvature is harmless to Adam and fatal to Nesterov: e = η·ρ/threshold."""
    spec = run_of("constant", optimizer=optimizer)
    assert decide_all(spec, [seen(0, 20.0)])[0].edge_ratio == pytest.approx(0.1 * 20.0 / threshold)


def test_an_optimizer_without_a_threshold_is_calibrated_instead():
    """`other` has no edge: no edge ratio, and the edge law takes a measured reference."""
    decisions = decide_all(run_of("edge", optimizer="other"), [seen(100 * i, 10.0) for i in range(6)])
    assert decisions[0].regime == "calibrating"
    assert decisions[-1].edge_ratio is None
    assert decisions[-1].multipliers.lr == pytest.approx(1.0)


# -- divergence -----------------------------------------------------------------------------------------------------


def test_divergence_backs_off_and_at_last_advises_to_stop():
    """Each diverged observation halves f to its bound and asks for a rollback; the third in a row says stop."""
    diverged = [Observation(step=100 * i, status="diverged") for i in range(3)]
    decisions = decide_all(run_of("power", rho_ref=10.0), [seen(0, 10.0), *diverged])
    assert [d.multipliers.lr for d in decisions] == [1.0, 0.5, 0.5, 0.5]
    assert [d.action for d in decisions] == ["continue", "rollback", "rollback", "stop"]
    assert decisions[1].regime == "diverged"


@pytest.mark.parametrize("status", ["breakdown", "unavailable"])
def test_without_a_spectrum_the_values_in_force_are_held(status):
    """No spectrum, no move: the last factors stay, with the reason."""
    spec = run_of("power", rho_ref=10.0)
    moved, held = decide_all(spec, [seen(0, 20.0), Observation(step=100, status=status)])
    assert held.multipliers == moved.multipliers
    assert (held.regime, held.reasons) == ("held", (f"held:{status}",))
