"""What a forward pass writes beside its result is as it was after a probe: weights, attributes, modules of the loss."""

import copy
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dcao_client.spectrum import Probe, ProbeSettings

EXACT = ProbeSettings(max_matvecs=60, rho_tol=1e-9, gamma_tol=1e-9, gamma_floor=0.0)


def _batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 4, generator=generator), torch.randint(0, 3, (16,), generator=generator)


class _Follower(nn.Module):
    """A momentum encoder that follows in `forward`, as MoCo's and BYOL's do."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.online, self.target, self.how = nn.Linear(4, 3), nn.Linear(4, 3), how
        self.target.requires_grad_(False)

    @torch.no_grad()
    def _follow(self) -> None:
        for slow, fast in zip(self.target.parameters(), self.online.parameters(), strict=True):
            if self.how == "data":
                slow.data.mul_(0.9).add_(fast.data, alpha=0.1)
            elif self.how == "rebound":
                slow.data = slow.data * 0.9 + fast.data * 0.1
            else:
                slow.mul_(0.9).add_(fast, alpha=0.1)

    def forward(self, x: Tensor) -> Tensor:
        self._follow()
        return self.online(x) + self.target(x)  # type: ignore[no-any-return]


class _Clamped(nn.Module):
    """Its weights are clamped before they are used, as a Wasserstein critic's are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for p in self.parameters():
            p.data.clamp_(-0.1, 0.1)
        return self.layer(x)  # type: ignore[no-any-return]


class _Bounded(nn.Module):
    """`max_norm` writes the rows that are looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.layer = nn.Embedding(5, 4, max_norm=0.5), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x + self.rows(torch.arange(len(x)) % 5))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "make",
    [lambda: _Follower("data"), lambda: _Follower("rebound"), lambda: _Follower("in place"), _Clamped, _Bounded],
    ids=["follows by data", "follows by binding anew", "follows in place", "clamps", "max_norm"],
)
def test_weights_that_a_forward_writes_are_left_alone(make: Callable[[], nn.Module], loss: Any) -> None:
    torch.manual_seed(0)
    model = make()
    before = copy.deepcopy(model.state_dict())
    memory = {name: p.data_ptr() for name, p in model.named_parameters()}
    probe = Probe(model, loss)
    for ask in (probe.measure, probe.measure, probe.sharpness, probe.track):
        assert ask(_batch()).status == "ok"
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert {name: p.data_ptr() for name, p in model.named_parameters()} == memory


def test_weights_that_no_forward_writes_are_copied_once(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Linear(4, 3)
    probe = Probe(model, loss)
    assert probe._writes.copies(list(model.parameters()))
    probe.measure(_batch())
    assert probe._writes.found is False
    assert not probe._writes.copies(list(model.parameters()))


class _Remembers(nn.Module):
    """State in plain attributes, some of which the result depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.queue, self.place, self.seen = torch.zeros(8, 3), 0, np.zeros(2)
        self.nested = {"calls": [0], "deep": {"last": deque(maxlen=3)}, "bytes": bytearray(1)}

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        self.queue[self.place % 8] = out[0].detach()
        self.place += 1
        self.seen += 1
        self.nested["calls"][0] += 1  # type: ignore[index]
        self.nested["deep"]["last"].append(self.place)  # type: ignore[index]
        self.nested["bytes"][0] += 1  # type: ignore[index]
        return out + 0.1 * self.queue.mean(0)


def test_attributes_and_what_they_hold_come_back(loss: Any) -> None:
    torch.manual_seed(0)
    model = _Remembers()
    model(_batch()[0])
    before = copy.deepcopy(model.__dict__)
    lists = model.nested["calls"]
    probe = Probe(model, loss)
    assert probe.measure(_batch()).status == "ok"
    assert torch.equal(model.queue, before["queue"])
    assert (model.place, model.nested) == (1, before["nested"])
    assert (model.seen == before["seen"]).all()
    assert model.nested["calls"] is lists


class _Meter:
    """A counter that is no module, with one more inside."""

    def __init__(self, inner: Any = None) -> None:
        self.calls, self.values, self.inner = 0, [0.0], inner

    def __call__(self, *_: Any) -> None:
        self.calls += 1
        self.values.append(float(self.calls))
        if self.inner is not None:
            self.inner()

    def hook(self, *_: Any) -> None:
        self()


ACTIVATIONS: dict[str, Tensor] = {}


def _by_global_name(_: nn.Module, __: Any, out: Tensor) -> None:
    ACTIVATIONS["out"] = out.detach()


class _Metered(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 3)
        self.meter, self.shared = _Meter(_Meter()), _Meter()
        self.shared.lock = threading.Lock()  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        self.meter()
        self.shared()
        return super().forward(x)


def test_counters_and_lists_of_objects_that_are_no_modules_come_back(loss: Any) -> None:
    model, recorder, kept = _Metered(), _Meter(), {"out": torch.zeros(1)}
    first = kept["out"]
    model.register_forward_hook(recorder.hook)
    model.register_forward_hook(lambda _, __, out: kept.update(out=out))
    model.register_forward_hook(_by_global_name)
    assert Probe(model, loss).measure(_batch()).status == "ok"
    for meter in (model.meter, model.meter.inner, recorder):
        assert (meter.calls, meter.values) == (0, [0.0])
    assert kept["out"] is first
    assert not ACTIVATIONS
    assert model.shared.calls > 0  # what another thread may be writing is nobody's to put back


class _Centred(nn.Module):
    """A loss with a state and a head of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
        self.register_buffer("centre", torch.zeros(3))

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        out = self.norm(self.head(model(batch[0])))
        self.centre.mul_(0.9).add_(out.detach().mean(0), alpha=0.1)
        return nn.functional.cross_entropy(out - self.centre.detach().clone(), batch[1])


@pytest.mark.parametrize("by", ["itself", "closure", "method"])
def test_modules_that_the_loss_holds_are_borrowed_too(by: str) -> None:
    torch.manual_seed(0)
    own = _Centred()

    class Trainer:
        def __init__(self) -> None:
            self.criterion = own

        def loss(self, model: nn.Module, batch: Any) -> Tensor:
            return self.criterion(model, batch)  # type: ignore[no-any-return]

    ask: Any = {"itself": own, "closure": lambda m, b: own(m, b), "method": Trainer().loss}[by]
    before = copy.deepcopy(own.state_dict())
    model = nn.Linear(4, 3)
    assert Probe(model, ask).measure(_batch()).status == "ok"
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert all(p.grad is None for p in own.parameters())


def test_curvature_is_also_of_a_head_that_the_loss_holds_if_the_optimizer_moves_it(
    hessian: Callable[..., np.ndarray],
) -> None:
    torch.manual_seed(0)
    model, head = nn.Linear(4, 3).double(), nn.Linear(3, 3).double()
    x, y = _batch()
    batch = x.double(), y

    def with_head(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(head(model(batch[0])), batch[1])

    whole = nn.Sequential(model, head)
    dense = np.linalg.eigvalsh(hessian(whole, lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]), batch))[::-1]
    both = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=0.1)
    found = Probe(model, with_head, optimizer=both, settings=EXACT).measure(batch)
    assert found.rho == pytest.approx(dense[0], rel=1e-6)
    assert found.gamma == pytest.approx(dense[0] - dense[1], rel=1e-6)
    alone = Probe(model, with_head, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), settings=EXACT)
    assert alone.measure(batch).rho < 0.9 * found.rho
    assert alone.measure(batch).fingerprint != found.fingerprint
