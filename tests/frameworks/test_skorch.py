"""`CurvatureCallback` in skorch's nets."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback, Checkpoint, LoadInitState, LRScheduler
from skorch.helper import predefined_split
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR

from dcao_client import DCAO
from dcao_client.hooks.attachment import Attachment
from dcao_client.hooks.skorch import CurvatureCallback
from tests.frameworks.regression import CONTROL, Updates, data, flat, loader, mse, net

x, y = (t.numpy().astype(np.float32) for t in data().tensors)


class Model(nn.Module):
    """The small problem, as a class that skorch makes an object of."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.net, self.dropout, self.seen = net(), nn.Dropout(dropout), []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            self.seen.append(flat(list(self.parameters())))
        return self.net(self.dropout(x))


class Seen(Callback):
    """What each update used, and what was in force."""

    def __init__(self, ours: CurvatureCallback | None = None) -> None:
        self.ours_, self.updates_, self.factors_, self.x_ = ours, Updates(), [], []

    def initialize(self):
        return self

    def on_grad_computed(self, net, named_parameters, **_):
        self.updates_.before(net.module_)

    def on_batch_end(self, net, training=False, **_):
        if not training:
            return
        if isinstance(net.optimizer_, DCAO):
            self.x_.append(flat([net.optimizer_.average(p) for p in net.module_.parameters()]))
            return
        self.updates_.after(net.module_)
        if self.ours_ is not None and self.ours_.control is not None and self.ours_.control.decision is not None:
            self.factors_.append(self.ours_.control.decision.multipliers.lr)


def made(*callbacks: Callback, optimizer=torch.optim.SGD, epochs: int = 2, lr: float = 0.1, **options):
    torch.manual_seed(0)
    options.setdefault("train_split", None)
    return NeuralNetRegressor(
        Model, optimizer=optimizer, lr=lr, max_epochs=epochs, batch_size=8, verbose=0, callbacks=list(callbacks),
        **options,
    )  # fmt: skip


def weights(fitted: NeuralNetRegressor) -> torch.Tensor:
    return flat(list(fitted.module_.parameters()))


def test_the_update_uses_the_schedule_times_the_decided_factor():
    """From weights and gradients: η = 0.1·0.9ᵗ·f at every step; skorch gives the optimizer a closure."""
    ours = CurvatureCallback(run="r", **CONTROL)
    seen = Seen(ours)
    made(ours, seen, LRScheduler(ExponentialLR, gamma=0.9, step_every="batch")).fit(x, y)
    assert len(seen.updates_.rates) == len(seen.factors_) == 16 == ours.control.session.stats.decisions
    expected = [0.1 * 0.9**t * f for t, f in enumerate(seen.factors_)]
    assert seen.updates_.rates == pytest.approx(expected, rel=1e-3)
    assert len({round(f, 6) for f in seen.factors_}) > 4


def test_a_fit_that_is_only_watched_is_bit_identical():
    """Every bit of the weights, dropout included, and every loss."""
    ours = CurvatureCallback(run="r", trust="watch", overhead=None, probe_interval=2)
    plain, watched = made().fit(x, y), made(ours).fit(x, y)
    assert torch.equal(weights(plain), weights(watched))
    assert ours.control.session.stats.decisions > 5
    assert plain.history[:, "train_loss"] == watched.history[:, "train_loss"]


def test_a_checkpoint_goes_on_exactly(tmp_path):
    """Weights and decisions bit for bit from what skorch's `Checkpoint` wrote of the optimizer."""

    def parts(epochs: int) -> tuple[NeuralNetRegressor, CurvatureCallback]:
        ours = CurvatureCallback(run="r", trust="auto", overhead=None, probe_interval=4)
        saving = Checkpoint(dirname=str(tmp_path), monitor=None, f_pickle=None)
        options = {"optimizer": torch.optim.AdamW, "lr": 0.05, "module__dropout": 0.0}
        return made(ours, LoadInitState(saving), saving, epochs=epochs, **options), ours

    whole, control = parts(4)
    whole.set_params(callbacks__Checkpoint=None, callbacks__LoadInitState=None)
    whole.fit(x, y)
    parts(2)[0].fit(x, y)
    resumed, control_too = parts(2)
    resumed.callbacks = [resumed.callbacks[1], resumed.callbacks[0], resumed.callbacks[2]]  # loads before we look
    resumed.fit(x, y)
    assert torch.equal(weights(whole), weights(resumed))
    assert control.control.decision.lr == control_too.control.decision.lr
    assert control_too.control.session.attempt == 2


def test_partial_fit_goes_on_with_the_same_run():
    """Two times two epochs are four."""
    given = {"optimizer": torch.optim.AdamW, "module__dropout": 0.0}
    ours, again = (CurvatureCallback(run=n, trust="auto", overhead=None, probe_interval=4) for n in ("a", "b"))
    whole = made(ours, epochs=4, **given).fit(x, y)
    parts = made(again, **given).partial_fit(x, y).partial_fit(x, y)
    assert torch.equal(weights(whole), weights(parts))
    assert again.control.steps == 32
    assert again.control.session.attempt == 2


def test_dcao_is_validated_at_x():
    """Made by skorch itself; trains as in a loop of one's own, and the module holds x in the end."""

    class Net(NeuralNetRegressor):
        def initialize_optimizer(self, *_, **__):
            self.optimizer_ = DCAO(self.module_, mse, run="r", overhead=None, probe_interval=4)
            return self

    torch.manual_seed(0)
    seen = Seen()
    seen.on_grad_computed = lambda *_, **__: None
    fitted = Net(
        Model, max_epochs=2, batch_size=8, verbose=0, train_split=predefined_split(data(8)), module__dropout=0.0,
        callbacks=[CurvatureCallback(), seen],
    ).fit(x, y)  # fmt: skip
    validated = fitted.module_.seen
    assert torch.equal(validated[-1], seen.x_[-1])
    assert torch.equal(weights(fitted), seen.x_[-1])
    torch.manual_seed(0)
    twin = Model(0.0)
    optimizer = DCAO(twin, mse, run="r", overhead=None, probe_interval=4)
    for batch in [*loader(), *loader()]:
        optimizer.zero_grad()
        mse(twin, batch).backward()
        optimizer.step(batch=tuple(batch))
    optimizer.eval()
    assert torch.equal(weights(fitted), flat(list(twin.parameters())))


@pytest.mark.parametrize("where", ["step", "_use", "state_dict", "finish"])
def test_an_exception_of_ours_stops_no_fit(monkeypatch, where):
    """Every step is taken as it would have been."""

    def broken(*_, **__):
        raise RuntimeError("of ours")

    monkeypatch.setattr(Attachment, where, broken)
    seen = Seen()
    made(CurvatureCallback(run="r", trust="watch"), seen).fit(x, y)
    assert seen.updates_.rates == pytest.approx([0.1] * 16, rel=1e-4)


def test_a_controller_that_is_away_stops_no_fit():
    """The same decisions are made in-process."""
    ours = CurvatureCallback(run="r", url="http://127.0.0.1:9", **CONTROL)
    made(ours).fit(x, y)
    assert ours.control.session.stats.in_process == 16


def test_a_net_is_cloned_set_and_pickled_with_the_callback():
    """As scikit-learn's searches do."""
    fitted = made(CurvatureCallback(run="r", trust="watch")).fit(x, y)
    assert np.allclose(pickle.loads(pickle.dumps(fitted)).predict(x), fitted.predict(x))
    again = clone(fitted).set_params(callbacks__CurvatureCallback__run="other").fit(x, y)
    assert dict(again.callbacks_)["CurvatureCallback"].control.session.run == "other"
