"""Training with a probe that is ignored is bit-identical to training without, whatever model and loop are made of."""

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dcao_client.spectrum import Probe, ProbeSettings

Build = Callable[[], nn.Module]


class Attention(nn.Module):
    """Embedding, one causal self-attention block on the fused-capable kernel, and a head tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.qkv = nn.Linear(8, 24)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x.abs().mul(3).long().clamp_max(10))
        q, k, v = self.qkv(h).view(*h.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
        a = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = self.norm(h + a.transpose(1, 2).reshape(h.shape))
        return self.head(h).mean(1)[:, :3]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(1, 5, num_layers=2, dropout=0.3, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.unsqueeze(-1))[0][:, -1])


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Dropout(0.3), nn.Tanh())
        self.head = nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(checkpoint(self.body, x, use_reentrant=False))


class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = _mlp(nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.body(x).float()


class Stochastic(nn.Module):
    """Draws from all three global generators and counts its own calls in a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _mlp(nn.Tanh())
        self.calls = 0
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(self.calls)
        keep = 1.0 if random.random() < 0.8 else 0.5
        return self.body(x + 0.1 * torch.randn_like(x)) * keep * float(1 + 0.1 * np.random.rand())


def _mlp(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 9), *middle, nn.Linear(9, 3))


def _frozen() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, 3))
    net[0].requires_grad_(False)
    return net


def _unused() -> nn.Module:
    net = _mlp(nn.Tanh())
    net.register_parameter("never_used", nn.Parameter(torch.ones(2)))
    return net


def _in_place_compiled() -> nn.Module:
    net = _mlp(nn.Tanh())
    net.compile(backend="aot_eager")
    return net


MODELS: dict[str, Build] = {
    "batch_norm": lambda: _mlp(nn.BatchNorm1d(9), nn.ReLU()),
    "dropout": lambda: _mlp(nn.ReLU(), nn.Dropout(0.3)),
    "attention_tied": Attention,
    "rnn": Recurrent,
    "checkpointing": Checkpointed,
    "autocast": Autocast,
    "compiled": lambda: torch.compile(_mlp(nn.Tanh()), backend="aot_eager"),  # type: ignore[dict-item]
    "compiled_in_place": _in_place_compiled,
    "frozen_layers": _frozen,
    "unused_parameter": _unused,
    "stochastic": Stochastic,
    "weight_norm": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 9)), nn.Linear(9, 3)),
    "spectral_norm": lambda: nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 9)), nn.Linear(9, 3)),
}


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def _data(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 6, generator=generator), torch.randint(0, 3, (8,), generator=generator)


def _seed() -> None:
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)


def _everything(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """Every bit that training could notice."""
    state: dict[str, Any] = {
        f"parameter {n}": p.detach().clone() for n, p in model.named_parameters(remove_duplicate=False)
    }
    state |= {f"buffer {n}": b.clone() for n, b in model.named_buffers()}
    state |= {f"grad {n}": None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    state |= {f"requires_grad {n}": p.requires_grad for n, p in model.named_parameters()}
    state |= {f"identity {n}": id(p) for n, p in model.named_parameters(remove_duplicate=False)}
    state |= {f"version {n}": p._version for n, p in model.named_parameters()}
    for name, module in model.named_modules():
        state[f"training {name}"] = module.training
        plain = {k: v for k, v in module.__dict__.items() if not k.startswith("_") and not isinstance(v, Tensor)}
        state[f"attributes {name}"] = copy.deepcopy({k: v for k, v in plain.items() if isinstance(v, int | list)})
        state[f"hooks {name}"] = [
            list(getattr(module, kind))
            for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        ]
    state["torch rng"] = torch.get_rng_state()
    state["python rng"] = random.getstate()
    state["numpy rng"] = [np.asarray(part).tolist() for part in np.random.get_state()]
    state["autocast"] = (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
    state["grad mode"] = torch.is_grad_enabled()
    if optimizer is not None:
        for index, per in enumerate(optimizer.state.values()):
            state |= {
                f"optimizer {index} {k}": v.clone() if isinstance(v, Tensor) else copy.copy(v) for k, v in per.items()
            }
    return state


def _same(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before.keys() == after.keys()
    for key, value in before.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, after[key]), key
        else:
            assert value == after[key], key


def _train(build: Build, steps: int, probe_every: int | None, **kind: Any) -> nn.Module:
    _seed()
    model = build()
    make = kind.get("optimizer", lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))
    optimizer = make([p for p in model.parameters() if p.requires_grad])
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=kind.get("scaler", False))
    accumulate = kind.get("accumulate", 1)
    probe = Probe(model, loss, optimizer=optimizer, settings=ProbeSettings(max_matvecs=3))
    for step in range(steps):
        batch = _data(step)

        def closure(batch: tuple[Tensor, Tensor] = batch) -> Tensor:
            value = loss(model, batch) / accumulate
            scaler.scale(value).backward()
            return value

        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer.step(lambda: (optimizer.zero_grad(), closure())[1])  # type: ignore[arg-type,return-value]
        else:
            closure()
        if probe_every is not None and step % probe_every == 0:
            probe.measure(batch)
        if not isinstance(optimizer, torch.optim.LBFGS) and (step + 1) % accumulate == 0:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    return model


def _identical(build: Build, steps: int = 200, every: int = 10, **kind: Any) -> None:
    plain, probed = _train(build, steps, None, **kind), _train(build, steps, every, **kind)
    for (name, a), (_, b) in zip(plain.state_dict().items(), probed.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("name", MODELS)
def test_two_hundred_steps_are_bit_identical_with_an_ignored_probe(name: str) -> None:
    _identical(MODELS[name])


def test_accumulated_gradients_survive_a_probe_between_micro_batches() -> None:
    _identical(MODELS["batch_norm"], accumulate=3, every=1, steps=60)


def test_a_grad_scaler_is_not_involved() -> None:
    _identical(MODELS["batch_norm"], scaler=True)


def _optimizers() -> dict[str, Callable[[Any], torch.optim.Optimizer]]:
    found: dict[str, Callable[[Any], torch.optim.Optimizer]] = {}
    for name in dir(torch.optim):
        kind = getattr(torch.optim, name)
        if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)) or name == "Optimizer":
            continue
        if name in ("SparseAdam", "Muon"):
            continue  # sparse gradients only; matrices only: each has a test of its own below
        found[name] = lambda p, kind=kind: kind(p, lr=1e-2)
    found["AdamW fused"] = lambda p: torch.optim.AdamW(p, lr=1e-2, fused=True)
    found["AdamW foreach"] = lambda p: torch.optim.AdamW(p, lr=1e-2, foreach=True)
    found["Adam amsgrad"] = lambda p: torch.optim.Adam(p, lr=1e-2, amsgrad=True)
    found["SGD fused"] = lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, fused=True)
    return found


@pytest.mark.parametrize("name", _optimizers())
def test_every_optimizer_takes_the_same_two_hundred_steps(name: str) -> None:
    _identical(MODELS["batch_norm"], optimizer=_optimizers()[name], every=20)


def test_muon_on_matrices_takes_the_same_steps() -> None:
    if not hasattr(torch.optim, "Muon"):
        assert "Muon" not in dir(torch.optim)
        return

    def matrices() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 9, bias=False), nn.Tanh(), nn.Linear(9, 3, bias=False))

    _identical(matrices, optimizer=lambda p: torch.optim.Muon(p, lr=1e-2), every=20)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_nothing_that_training_could_notice_changes(name: str, mode: str) -> None:
    _seed()
    model = MODELS[name]()
    model.train(mode == "train")
    loss(model, _data(0)).backward()
    before = _everything(model)
    spectrum = Probe(model, loss, settings=ProbeSettings(max_matvecs=4)).measure(_data(1))
    assert spectrum.status == "ok"
    _same(before, _everything(model))


@pytest.mark.parametrize("call", [1, 2])
def test_nothing_changes_when_the_loss_raises(call: int) -> None:
    """Also when it raises late, with graphs and half a basis in hand."""
    _seed()
    model = MODELS["stochastic"]()
    loss(model, _data(0)).backward()
    calls = 0

    def failing(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        nonlocal calls
        value = loss(model, batch)
        calls += 1
        if calls > call:
            raise RuntimeError("the data loader is gone")
        return value

    before = _everything(model)
    probe = Probe(model, failing, settings=ProbeSettings(matvec="double_backward", graph="rebuild", strict=True))
    with pytest.raises(RuntimeError, match="the data loader is gone"):
        probe.measure(_data(1))
    assert calls == call + 1
    _same(before, _everything(model))


def test_users_hooks_on_parameters_and_backward_passes_do_not_fire() -> None:
    model = _mlp(nn.ReLU(), nn.Dropout(0.3))
    fired: list[str] = []
    first = next(model.parameters())
    first.register_hook(lambda g: fired.append("tensor"))  # type: ignore[arg-type,return-value]
    first.register_post_accumulate_grad_hook(lambda p: fired.append("accumulate"))
    model[1].register_full_backward_hook(lambda *_: fired.append("module"))  # type: ignore[arg-type,return-value]
    Probe(model, loss).measure(_data(0))
    assert fired == []
    loss(model, _data(0)).backward()
    assert sorted(fired) == ["accumulate", "module", "tensor"]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu")])
def test_it_measures_the_same_inside_any_mode_the_caller_left_on(context: Callable[[], Any]) -> None:
    model = MODELS["batch_norm"]()
    batch = _data(0)
    outside = Probe(model, loss).measure(batch)
    with context():
        inside = Probe(model, loss).measure(batch)
    assert inside.rho == outside.rho
    assert inside.gamma == outside.gamma


def test_no_graph_outlives_the_call() -> None:
    """After the call no tensor that requires a gradient is left but the model's own parameters."""
    import gc

    model = MODELS["batch_norm"]()
    probe = Probe(model, loss)
    probe.measure(_data(0))
    gc.collect()
    mine = {id(p) for p in model.parameters()}
    left = [o for o in gc.get_objects() if type(o) in (Tensor, nn.Parameter) and o.grad_fn is not None]
    assert left == []
    assert all(not t.requires_grad for t in probe.state_dict()["warm"])
    assert {id(p) for p in model.parameters()} == mine


def test_no_seed_is_left_for_a_device_that_is_not_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.manual_seed would queue the probe's seed until the device starts, and the training's draws with it."""

    def refuse(seed: int) -> None:
        raise AssertionError(f"seeded with {seed}")

    for owner, name in ((torch, "manual_seed"), (torch.cuda, "manual_seed_all"), (torch.xpu, "manual_seed_all")):
        monkeypatch.setattr(owner, name, refuse)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    before = torch.get_rng_state()
    spectrum = Probe(model, lambda m, b: m(b).square().mean()).measure(torch.ones(6, 4))
    assert spectrum.status == "ok"
    assert torch.equal(torch.get_rng_state(), before)
