"""Anything that the protocol allows, for property tests."""

from hypothesis import strategies as st

from dcao_proto import Bounds, Hyperparameters, Multipliers, Observation, Path, PolicyChoice, ProbeReport, RunSpec
from dcao_proto.policy import PolicyState
from dcao_proto.policy.presets import BUILT_IN
from dcao_proto.policy.state import LEAST_RETREAT, Statistics

OPTIMIZERS = [
    "schedule_free_sgd",
    "schedule_free_adam",
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
    "other",
]
finite = st.floats(allow_nan=False, allow_infinity=False)
non_negative = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**53 - 1)

hyperparameters = st.builds(
    Hyperparameters,
    lr=st.floats(0, 1e6),
    momentum=st.floats(0, 1, exclude_max=True),
    weight_decay=st.floats(0, 1e6),
)
intervals = st.tuples(st.floats(0, 1), st.floats(1, 1e6))
bounds = st.builds(
    Bounds, lr=intervals, momentum=intervals, weight_decay=intervals, max_momentum=st.floats(0, 1, exclude_max=True)
)
names = st.sampled_from([policy.name for policy in BUILT_IN])
specs = st.builds(
    RunSpec,
    optimizer=st.sampled_from(OPTIMIZERS),
    base=hyperparameters,
    policy=st.builds(PolicyChoice, name=names),
    bounds=bounds,
) | st.builds(
    lambda optimizer, base, policy, trusted: RunSpec(optimizer=optimizer, base=base, policy=policy, **trusted),
    st.sampled_from(OPTIMIZERS),
    hyperparameters,
    st.builds(PolicyChoice, name=names),
    st.sampled_from(
        [
            {"scale": "path", "trust": "auto"},
            {"scale": "path", "trust": "guard"},
            {"scale": "path"},
            {"trust": "guard"},
            {"trust": "watch"},
        ]
    ),
)
paper_specs = st.builds(
    RunSpec,
    optimizer=st.sampled_from(OPTIMIZERS),
    base=hyperparameters,
    bounds=bounds,
    policy=st.builds(
        PolicyChoice,
        name=st.just("paper"),
        params=st.fixed_dictionaries(
            {
                "rho_ref": positive,
                "gamma_ref": positive,
                "alpha": non_negative,
                "kappa": non_negative,
                "mu": non_negative,
            }
        ),
    ),
)
paths = st.none() | st.builds(Path, distance=non_negative, gradients=non_negative, steps=counts, shape=st.floats(0, 1))
optional_base = st.none() | hyperparameters
measured = st.builds(
    Observation,
    step=counts,
    rho=finite,
    gamma=non_negative,
    loss=st.none() | finite,
    rho_bound=st.none() | non_negative,
    gamma_bound=st.none() | non_negative,
    base=optional_base,
    path=paths,
    probe=st.none() | st.builds(ProbeReport, fingerprint=st.none() | st.sampled_from(["a", "b"])),
)
unmeasured = st.builds(
    Observation, step=counts, status=st.sampled_from(["breakdown", "diverged", "unavailable"]), base=optional_base
)
observations = measured | unmeasured
statistics = st.builds(Statistics, mean=finite, variance=non_negative, count=counts)
states = st.builds(
    PolicyState,
    step=st.none() | counts,
    fingerprint=st.none() | st.sampled_from(["a", "b"]),
    calibration=st.lists(st.tuples(positive, non_negative), max_size=20).map(tuple),
    rho_ref=st.none() | positive,
    gamma_ref=st.none() | positive,
    lr_ref=st.none() | non_negative,
    log_rho=st.none() | st.floats(-750, 750),
    gamma=st.none() | non_negative,
    window=st.lists(st.floats(-750, 750), max_size=9).map(tuple),
    outliers=st.integers(0, 3),
    factors=st.builds(Multipliers, lr=non_negative, momentum=non_negative, weight_decay=non_negative),
    diverged=st.integers(0, 5),
    at_bound=st.integers(0, 20),
    sharpness=st.none() | positive,
    retreat=st.floats(LEAST_RETREAT, 1),
    loss=statistics,
    rho=statistics,
)
