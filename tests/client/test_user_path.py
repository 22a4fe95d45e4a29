"""The path under a user's optimizer: what it sums is what the optimizer divides by, in every group, at every age."""

import math

import pytest
import torch
from torch import nn

from dcao_client.hooks.path import MOST, stride_of
from dcao_client.hooks.user_path import UserPath, bias
from dcao_client.spectrum.torch.precondition import rule


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 200), nn.Linear(200, 100))


MAKERS = {
    "adam": lambda m: torch.optim.Adam(m.parameters(), lr=1e-2),
    "amsgrad": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-2, amsgrad=True),
    "adamax": lambda m: torch.optim.Adamax(m.parameters(), lr=1e-2),
    "rmsprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-2, centered=True),
    "adagrad": lambda m: torch.optim.Adagrad(m.parameters(), lr=1e-2),
    "capturable": lambda m: torch.optim.Adam(m.parameters(), lr=torch.tensor(1e-2), foreach=False),
    "groups": lambda m: torch.optim.Adam(
        [{"params": m[:2].parameters(), "betas": (0.5, 0.9)}, {"params": m[2:].parameters(), "eps": 1e-3}], lr=1e-2
    ),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_sum_is_that_of_every_parameter_by_its_own_rule(make) -> None:
    """√G by hand from each parameter's own state; a layer thaws late, and one step a parameter has no gradient."""
    model = net()
    optimizer = make(model)
    path = UserPath(optimizer)
    how = rule(optimizer)
    model[1].requires_grad_(False)
    squares = 0.0
    for step in range(4):
        if step == 2:
            model[1].requires_grad_(True)
        optimizer.zero_grad()
        model(torch.randn(8, 6)).square().mean().backward()
        if step == 3:
            model[0].bias.grad = None
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = optimizer.state.get(p, {})
                P = how(p, state, group, p.grad.double()) / bias(state, group)
                stride = stride_of(p.numel())
                squares += stride * float((p.grad.double().square() / P).reshape(-1)[::stride].sum())
        path.before(1e-2, 0.9, None)
        assert path.meter.gradients == pytest.approx(math.sqrt(squares), rel=1e-5)
        optimizer.step()
        path.after(1.0)
    assert path.meter.steps == 4


def test_a_large_tensor_leaves_a_bounded_sample() -> None:
    for size in (1, 16_384, 16_385, 400_000, 5_000_000):
        samples = -(-size // stride_of(size))
        assert samples <= max(16_384, min(MOST, size))
    weight = nn.Parameter(torch.randn(1_200, 1_000))
    path = UserPath(torch.optim.SGD([weight], lr=0.1))
    weight.grad = torch.randn_like(weight)
    path.before(0.1, 0.0, None)
    assert path.meter.gradients == pytest.approx(float(weight.grad.norm()), rel=0.01)
