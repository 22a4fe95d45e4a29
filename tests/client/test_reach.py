"""A run whose bounds leave the rate no floor still trains, whatever a controller answers: trust `guard` and `auto`."""

import logging

import pytest
import torch

from dcao_client import Session
from dcao_client.hooks.param_groups import ParamGroups
from dcao_proto import Decision, Hyperparameters, Multipliers, Observation, Path, RunSpec
from dcao_proto.policy import bind
from dcao_proto.policy.token import join
from tests.client.test_answers import change_decisions, controller, factors, impatient  # noqa: F401

BASE = Hyperparameters(lr=0.1, momentum=0.9)
GUARD = RunSpec(optimizer="sgd", base=BASE, trust="guard", probe_interval=10)
AUTO = RunSpec(optimizer="sgd", base=BASE, scale="path", trust="auto", probe_interval=10)


def seen(count: int, rho: float = 30.0) -> list[Observation]:
    way = [Path(distance=1.0 + i, gradients=20.0 + i, steps=10 * i) for i in range(count)]
    return [
        Observation(step=10 * i, rho=rho, gamma=1.0, path=path, base=Hyperparameters(lr=0.05, momentum=0.9))
        for i, path in enumerate(way)
    ]


def alone(spec: RunSpec, count: int) -> list[float]:
    with Session(spec, run="alone", journal_dir="/dev/null/nowhere") as session:
        return [session.decide(o).lr for o in seen(count)]


@pytest.mark.parametrize("spec", [GUARD, AUTO], ids=["guard", "auto"])
@pytest.mark.parametrize(
    "fields",
    [
        {"lr": 0.0, "multipliers": factors(lr=0.0)},
        {"lr": 0.05 * 5e-324, "multipliers": factors(lr=5e-324)},
        {"lr": 0.05e-300, "multipliers": factors(lr=1e-300)},
        {"lr": 0.0, "ceiling": 0.0},
        {"lr": 5e-324, "ceiling": 5e-324},
        {"lr": 1e-12, "ceiling": 1e-12},
        {"ceiling": 1e6},
        {"action": "rollback"},
    ],
    ids=str,
)
def test_an_answer_that_would_stop_training_is_treated_like_none(controller, tmp_path, caplog, spec, fields):  # noqa: F811
    """Decided in-process, counted, and named once; the rates are those of a run without a controller."""
    controller.change = change_decisions(**fields)
    with (
        caplog.at_level(logging.WARNING, "dcao"),
        Session(spec, run="r", url=controller.url, journal_dir=tmp_path, deadline=5) as session,
    ):
        rates = []
        for observation in seen(6):
            rates.append(session.decide(observation).lr)
            session.flush(0.2)
    assert rates == alone(spec, 6)
    assert session.stats.refused_answers >= 2
    assert session.stats.in_process == 6
    assert sum("is not used" in record.message for record in caplog.records) == 1


def _token(spec: RunSpec, decision: Decision, state: dict[str, object]) -> str:
    bound = bind(spec)
    return join(bound.spec_segment, bound.state_of(decision.state).model_copy(update=state))


@pytest.mark.parametrize("state", [{"retreat": 1e-300}, {"retreat": 2.0**-19}, {"sharpness": 1e200}], ids=str)
def test_a_state_that_would_stop_training_later_is_not_taken(controller, tmp_path, state):  # noqa: F811
    """The decision is right, and what the law would make of the state that comes with it is not."""

    def poison(kind, answer):
        if kind != "decisions":
            return answer
        decision = Decision.model_validate_json(answer[2])
        worse = decision.model_copy(update={"state": _token(AUTO, decision, state)})
        return answer[0], answer[1], worse.wire_json()

    controller.change = poison
    with Session(AUTO, run="r", url=controller.url, journal_dir=tmp_path, deadline=5) as session:
        rates = [session.decide(o).lr for o in seen(3)]
        controller.change = lambda kind, answer: None
        rates += [session.decide(o).lr for o in seen(6)[3:]]
    assert rates == pytest.approx(alone(AUTO, 6), rel=0.7)  # a state behind by a step is behind by less than half


def test_small_steps_do_not_lead_far(controller, tmp_path):  # noqa: F811
    """An answer within reach of the last one, and the next of that one, …: the reach is from the law, not from them."""

    def lower(kind, answer):
        if kind != "decisions":
            return answer
        decision = Decision.model_validate_json(answer[2])
        sharper = bind(AUTO).state_of(decision.state).sharpness * 10
        ceiling = decision.ceiling / 10
        less = {"ceiling": ceiling, "lr": min(decision.lr, ceiling)}
        state = _token(AUTO, decision, {"sharpness": sharper})
        return answer[0], answer[1], decision.model_copy(update={**less, "state": state}).wire_json()

    controller.change = lower
    with Session(AUTO, run="r", url=controller.url, journal_dir=tmp_path, deadline=5) as session:
        ceilings = []
        for observation in seen(20):
            ceilings.append(session.decide(observation).ceiling)
            session.flush(0.2)
    with Session(AUTO, run="alone", journal_dir="/dev/null/nowhere") as session:
        own = [session.decide(o).ceiling for o in seen(20)]
    assert all(c >= mine / 256 for c, mine in zip(ceilings, own, strict=True))
    assert ceilings[-1] >= own[-1] / 256


def test_a_run_that_stands_still_is_told_so(caplog):
    """An absurd curvature, once, is the law's own affair; that the rate is next to nothing is said once."""
    with (
        caplog.at_level(logging.WARNING, "dcao"),
        Session(GUARD, run="r", journal_dir="/dev/null/nowhere") as session,
    ):
        for observation in seen(3, rho=1e30):
            session.decide(observation)
    said = [record.message for record in caplog.records if "stands still" in record.message]
    assert len(said) == 1
    assert "curvature 1e+30" in said[0]


@pytest.mark.parametrize("ceiling", [1e-300, 5e-324, 1e-30])
def test_a_tiny_ceiling_is_left_behind_when_it_is_gone(ceiling):
    """Growth goes on from a millionth of the path's rate, not from what the ceiling made of it."""
    torch.manual_seed(0)
    weights = torch.nn.Parameter(torch.randn(20))
    optimizer = torch.optim.SGD([weights], lr=0.1, momentum=0.9)
    groups = ParamGroups(optimizer, scale="path")

    def train(steps: int) -> float:
        for _ in range(steps):
            weights.grad = weights.detach().clone()
            optimizer.step()
        return groups.applied.lr

    push = Decision.model_construct(multipliers=Multipliers(lr=0.22), groups=None, ceiling=None)
    groups.set(push)
    before = train(50)
    groups.set(push.model_copy(update={"ceiling": ceiling}))
    assert train(5) == ceiling
    groups.set(push)
    assert train(160) > before / 10
