"""A decision in the optimizer: exact, proportional, gone after the update."""

import copy

import pytest
import torch
from torch.optim import lr_scheduler

from dcao_client import attach
from dcao_client.hooks.param_groups import ParamGroups, optimizer_name
from dcao_proto import Decision, Multipliers

SCHEDULERS = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.9**t),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4], 0.3),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.5, 3),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.3, 1.0, 5),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 8, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 8, eta_min=0.01),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.2, 3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.3, total_steps=20),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 3), lr_scheduler.CosineAnnealingLR(o, 6)], [3]
    ),
}


def mse(model, batch):
    return torch.nn.functional.mse_loss(model(batch[0]), batch[1])


def decision(lr: float = 1.0, momentum: float = 1.0, weight_decay: float = 1.0) -> Decision:
    multipliers = Multipliers(lr=lr, momentum=momentum, weight_decay=weight_decay)
    return Decision.model_construct(multipliers=multipliers, groups=None, ceiling=None)


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(3))


def update(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.ones_like(p)
    optimizer.step()


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.filterwarnings("ignore:To get the last learning rate", "ignore:The epoch parameter")
def test_every_scheduler_keeps_the_base_and_the_update_gets_base_times_factor(name):
    """lr(t) = base.lr(t)·f at every step, bit for bit, with momentum that the scheduler moves as well."""
    with_us, alone = (torch.optim.SGD([parameter()], lr=0.1, momentum=0.5) for _ in range(2))
    groups = ParamGroups(with_us)
    ours, theirs = SCHEDULERS[name](with_us), SCHEDULERS[name](alone)
    for step in range(10):
        factor = 0.5 + 0.15 * step
        groups.set(decision(lr=factor, momentum=1.02))
        base_lr, base_momentum = alone.param_groups[0]["lr"], alone.param_groups[0]["momentum"]
        update(with_us)
        update(alone)
        assert groups.applied.lr == base_lr * factor
        assert groups.applied.momentum == base_momentum * 1.02
        ours.step()
        theirs.step()
        assert with_us.param_groups[0]["lr"] == alone.param_groups[0]["lr"]


def test_reduce_on_plateau_composes_too():
    """The one scheduler that wants a metric."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    groups, scheduler = ParamGroups(optimizer), lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    groups.set(decision(lr=2.0))
    seen = []
    for _ in range(3):
        update(optimizer)
        seen.append(groups.applied.lr)
        scheduler.step(1.0)
    assert seen == [0.2, 0.2, 0.1]


def test_groups_keep_their_ratios_and_zero_decay_stays_zero():
    """A head at ten times the rate stays at ten times the rate; biases without decay stay without."""
    optimizer = torch.optim.SGD(
        [
            {"params": [parameter()], "lr": 0.01, "weight_decay": 0.0},
            {"params": [parameter()], "lr": 0.1, "weight_decay": 1e-2, "momentum": 0.8},
        ],
        momentum=0.9,
    )
    groups = ParamGroups(optimizer)
    assert groups.base().lr == 0.1
    assert groups.base().momentum == 0.8
    assert groups.base().weight_decay == 1e-2
    groups.set(decision(0.5, 1.05, 2.0))
    used = []
    optimizer.register_step_pre_hook(lambda o, a, k: used.extend(copy.deepcopy([_values(g) for g in o.param_groups])))
    update(optimizer)
    assert used == [(0.005, 0.9 * 1.05, 0.0), (0.05, 0.8 * 1.05, 2e-2)]
    assert [_values(g) for g in optimizer.param_groups] == [(0.01, 0.9, 0.0), (0.1, 0.8, 1e-2)]


def _values(group: dict) -> tuple[float, float, float]:
    return group["lr"], group["momentum"], group["weight_decay"]


def test_the_first_of_the_betas_is_the_momentum():
    """Adam's β₁ moves, β₂ does not."""
    optimizer = torch.optim.AdamW([parameter()], lr=1e-3, betas=(0.9, 0.95))
    groups = ParamGroups(optimizer)
    groups.set(decision(momentum=1.05))
    used = []
    optimizer.register_step_pre_hook(lambda o, a, k: used.append(o.param_groups[0]["betas"]))
    update(optimizer)
    assert used == [(0.9 * 1.05, 0.95)]
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.95)


@pytest.mark.parametrize("fused", [False, True])
def test_a_tensor_learning_rate_is_written_in_place(fused):
    """Compiled and captured steps hold on to the tensor: it must stay the same object."""
    optimizer = torch.optim.SGD([parameter()], lr=torch.tensor(0.1), momentum=0.9, fused=fused or None)
    tensor = optimizer.param_groups[0]["lr"]
    groups = ParamGroups(optimizer)
    groups.set(decision(lr=0.5))
    update(optimizer)
    assert optimizer.param_groups[0]["lr"] is tensor
    assert tensor.item() == pytest.approx(0.1)
    assert groups.applied.lr == pytest.approx(0.05)


def test_momentum_is_never_lifted_above_the_cap_nor_a_users_own_lowered():
    """0.95 is capped at 0.99; a base of 0.995 is the user's choice."""
    for base, expected in ((0.95, 0.99), (0.995, 0.995)):
        optimizer = torch.optim.SGD([parameter()], lr=0.1, momentum=base)
        groups = ParamGroups(optimizer)
        groups.set(decision(momentum=1.5))
        update(optimizer)
        assert groups.applied.momentum == expected


def test_an_update_that_raises_leaves_no_adjusted_value_behind():
    """The next update starts from the base again."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    groups = ParamGroups(optimizer)
    groups.set(decision(lr=0.5))

    def closure() -> float:
        raise KeyError("from the closure")

    with pytest.raises(KeyError):
        optimizer.step(closure)
    update(optimizer)
    assert groups.applied.lr == 0.05
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_a_checkpoint_holds_base_values_and_loading_one_keeps_the_decision():
    """Neither undone nor doubled: what a restored optimizer uses is base times factor."""
    first = torch.optim.SGD([parameter()], lr=0.1)
    groups = ParamGroups(first)
    groups.set(decision(lr=0.5))
    update(first)
    saved = copy.deepcopy(first.state_dict())
    assert saved["param_groups"][0]["lr"] == 0.1
    first.load_state_dict(saved)
    update(first)
    assert groups.applied.lr == 0.05


def test_removed_hooks_leave_the_optimizer_as_it_was():
    """After `remove` the base values are used again."""
    optimizer = torch.optim.SGD([parameter()], lr=0.1)
    groups = ParamGroups(optimizer)
    groups.set(decision(lr=0.5))
    groups.remove()
    update(optimizer)
    assert groups.applied is None
    assert optimizer.param_groups[0]["params"][0].tolist() == pytest.approx([0.9] * 3)


@pytest.mark.parametrize(
    ("optimizer", "name"),
    [
        (torch.optim.SGD([parameter()], lr=0.1, momentum=0.9), "sgd"),
        (torch.optim.SGD([parameter()], lr=0.1, momentum=0.9, nesterov=True), "nesterov"),
        (torch.optim.Adam([parameter()]), "adam"),
        (torch.optim.AdamW([parameter()]), "adamw"),
        (torch.optim.AdamW([parameter()], amsgrad=True), "amsgrad"),
        (torch.optim.RMSprop([parameter()]), "rmsprop"),
        (torch.optim.LBFGS([parameter()]), "other"),
    ],
)
def test_optimizers_are_recognised(optimizer, name):
    """Each is told apart as the threshold needs it."""
    assert optimizer_name(optimizer) == name


@pytest.mark.parametrize("trust", ["guard", "auto"])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW], ids=lambda make: make.__name__)
def test_a_step_with_a_closure_is_the_step_without(tmp_path, trust, named, make):
    """The gradient comes with the closure: the path must take that one, not the one of the step before."""

    def ended(*, by_closure: bool) -> tuple[torch.Tensor, list]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        optimizer = make(model.parameters(), lr=0.3)
        used = []
        with attach(
            model, optimizer, mse, trust=trust, overhead=None, run=f"{by_closure}", journal_dir=tmp_path
        ) as dcao:
            for _ in range(30):
                batch = torch.randn(16, 4), torch.randn(16, 1)
                dcao.step(batch)

                def closure(batch=batch) -> torch.Tensor:
                    loss = mse(model, batch)
                    optimizer.zero_grad()
                    loss.backward()
                    return loss

                if by_closure:
                    value = optimizer.step(closure=closure) if named else optimizer.step(closure)
                    assert value > 0
                else:
                    closure()
                    optimizer.step()
                used.append(dcao.applied)
        return torch.nn.utils.parameters_to_vector(model.parameters()), used

    (weights, used), (again, used_too) = ended(by_closure=False), ended(by_closure=True)
    assert used == used_too
    assert len(set(used)) > 5
    assert torch.equal(weights, again)
