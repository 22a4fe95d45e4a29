"""Reconstructed laws of others on quadratics, as their papers have it, and schedules against their formulas."""

import math

import pytest
import torch
from torch import nn

from dcao_experiments.methods.curvature import LineSteering, groups_of, parabola
from dcao_experiments.methods.parameter_free import DoWG
from dcao_experiments.methods.schedules import RangeTest, cosine, linear_decay, stable_then_decay, with_warm_up
from dcao_experiments.policies import ADLER, CDAT, HI_DLR, rate_along, towards
from dcao_proto import Hyperparameters, Observation, RunSpec
from dcao_proto.observation import Directional, GroupDirectional
from dcao_proto.policy.registry import BoundPolicy, get_policy
from dcao_proto.policy.state import PolicyState
from dcao_proto.policy.token import encode_spec


def decided(policy, observation, **params):
    spec = RunSpec(optimizer="sgd", base=Hyperparameters(lr=1.0), bounds={"lr": (1e-6, 1e6)})
    bound = BoundPolicy(policy, policy.params(new=1.0, **params), spec, encode_spec(spec))
    return bound.decide(observation, PolicyState(), 0)


class Quadratic(nn.Module):
    """½ Σ h wᵢ², a layer of one weight each."""

    def __init__(self, curvatures: list[float]) -> None:
        super().__init__()
        self.h = torch.tensor(curvatures)
        self.w = nn.Parameter(torch.ones(1, len(curvatures)))

    def forward(self, _: object) -> torch.Tensor:
        return self.w * self.h.sqrt()


def test_the_greedy_rate_is_the_cauchy_step() -> None:
    """gᵀg/gᵀHg of diag(1, 2, 4) at w = 1: (1 + 4 + 16)/(1 + 8 + 64)."""
    g, h = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 2.0, 4.0])
    along = Directional(slope=float(g @ g), curvature=float(g @ (h * g)))
    assert rate_along(along, 1.0) == pytest.approx(21 / 73)
    sharpness = Observation(step=0, status="unavailable", batch_sharpness=73 / 21)
    assert decided(ADLER, sharpness).lr == pytest.approx(0.5), "at most half of the last rate in one decision"
    near = Observation(step=0, status="unavailable", batch_sharpness=1.25)
    assert decided(ADLER, near).lr == pytest.approx(0.8)


def test_cdat_rides_on_the_edge_and_takes_the_size_of_a_negative_curvature() -> None:
    for curvature in (2.0, -2.0):
        seen = Observation(step=0, status="unavailable", directional=Directional(slope=1.5, curvature=curvature))
        assert decided(CDAT, seen).lr == pytest.approx(1.5)
    uphill = Observation(step=0, status="unavailable", directional=Directional(slope=-1.0, curvature=1.0))
    held = decided(CDAT, uphill)
    assert (held.lr, held.regime) == (1.0, "held")


def test_hi_dlr_with_one_group_is_the_line_itself() -> None:
    line = Directional(slope=1.2, curvature=1.0)
    one = GroupDirectional(name="all", slope=1.2, curvature=1.0)
    decision = decided(HI_DLR, Observation(step=0, status="unavailable", directional=line, groups=(one,)))
    assert decision.lr == pytest.approx(1.2)
    assert [g.multiplier for g in decision.groups] == [pytest.approx(1.0)]
    two = (one, GroupDirectional(name="head", slope=0.9, curvature=1.0))
    decision = decided(HI_DLR, Observation(step=0, status="unavailable", directional=line, groups=two))
    assert {g.name: g.multiplier for g in decision.groups} == {"all": pytest.approx(1.0), "head": pytest.approx(0.75)}


def test_they_are_policies_of_the_controller() -> None:
    for policy in (ADLER, CDAT, HI_DLR):
        assert get_policy(policy.name) is policy
        assert "econstruction" in policy.summary


def test_a_parabola_has_its_minimum_where_it_is() -> None:
    def loss(x: float) -> float:
        return 3 * x * x - 2 * x + 5

    assert parabola([loss(-0.1), loss(0.0), loss(0.1)], 0.1) == pytest.approx(1 / 3)
    assert parabola([1.0, 0.0, 2.0], 0.1) is None, "uphill"
    assert parabola([1.0, 1.5, 1.0], 0.1) is None, "concave"
    assert towards(1.0, 10.0, 0.1) == pytest.approx(1.1)
    assert towards(1.0, 0.01, 0.1) == pytest.approx(0.95)


def test_what_is_measured_along_the_update_is_that_of_the_momentum_too() -> None:
    """Slope and curvature against the formulas of a quadratic, in the second step, where u is −(βv + g)."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1, bias=False)
    x, y = torch.randn(16, 3), torch.zeros(16, dtype=torch.long)
    seen: list[Observation] = []
    steering = LineSteering(Softened(model), CDAT, every=1)
    decide = steering._bound.advance
    steering._bound = type("Spy", (), {"advance": lambda _, o, s, v: (seen.append(o), decide(o, s, v))[1]})()
    w, velocity = steering._parameters[0], torch.zeros(3)
    for _ in range(2):
        steering.before((x, y))
        logits_of = lambda weight: torch.nn.functional.cross_entropy(  # noqa: E731
            torch.cat([x @ weight.T, torch.zeros(16, 1)], 1), y
        )
        gradient = torch.autograd.functional.jacobian(logits_of, w.detach()).flatten()
        hessian = torch.autograd.functional.hessian(logits_of, w.detach()).reshape(3, 3)
        velocity = 0.9 * velocity + gradient
        found = seen[-1].directional
        assert found.slope == pytest.approx(float(gradient @ velocity), rel=1e-3)
        assert found.curvature == pytest.approx(float(velocity @ hessian @ velocity), rel=2e-2)
        steering.optimizer.zero_grad()
        w.grad = gradient.reshape(1, 3)
        steering.optimizer.step()


class Softened(nn.Module):
    """Two classes, the second with the logit 0."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.inner(x), torch.zeros(len(x), 1)], 1)


def test_groups_are_vectors_head_and_rest() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 6), nn.Linear(6, 2))
    found = {g["name"]: [tuple(p.shape) for p in g["params"]] for g in groups_of(model)}
    assert found == {"vectors": [(5,), (5,), (5,), (6,), (2,)], "head": [(2, 6)], "rest": [(5, 4), (6, 5)]}


def test_dowg_takes_its_paper_s_steps() -> None:
    """By hand in one dimension: w = 1, g = 2 and then 1."""
    w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = DoWG([w])
    first = (1e-4 * (1 + 1)) ** 2
    w.grad = torch.tensor([2.0], dtype=torch.float64)
    optimizer.step()
    one = first / math.sqrt(first * 4)
    assert float(w.detach()) == pytest.approx(1 - 2 * one)
    w.grad = torch.tensor([1.0], dtype=torch.float64)
    optimizer.step()
    moved = max(first, (2 * one) ** 2)
    assert float(w.detach()) == pytest.approx(1 - 2 * one - moved / math.sqrt(first * 4 + moved))


def test_shapes_of_schedules() -> None:
    assert [cosine(t) for t in (0.0, 0.5, 1.0)] == pytest.approx([1, 0.5, 0])
    assert linear_decay(0.25) == 0.75
    assert [stable_then_decay(t) for t in (0.5, 0.8, 0.85, 1.0)] == pytest.approx([1, 1, 0.5, 0])
    warm = with_warm_up(cosine)
    assert warm(0.0) == 0
    assert warm(0.025) == pytest.approx(0.5)
    assert warm(1.0) == 0


def test_a_range_test_stops_short_of_where_it_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate is one at which the same network still learns, and within a factor of ten below where it was lowest."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    x = torch.randn(64, 4)
    y = (x[:, 0] > 0).long()
    test = RangeTest(model, 60)
    while not test.over:
        test.step((x, y))
    assert 1e-4 < test.rate() <= 1.0
