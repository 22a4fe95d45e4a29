"""`CurvatureCallback` in fastai's Learner."""

from functools import partial

import pytest
import torch
from fastai.callback.core import Callback
from fastai.callback.schedule import ParamScheduler, SchedCos
from fastai.callback.tracker import SaveModelCallback
from fastai.data.core import DataLoaders
from fastai.data.load import DataLoader
from fastai.learner import Learner, load_learner
from fastai.optimizer import OptimWrapper
from torch import nn
from torch.utils.data import TensorDataset

from dcao_client import DCAO
from dcao_client.hooks.attachment import Attachment
from dcao_client.hooks.fastai import CurvatureCallback
from tests.frameworks.regression import CONTROL, Updates, data, flat, loader, mse, net


class Seen(Callback):
    """What each update used, the user's base for it, and what was in force."""

    order = 80

    def __init__(self, ours: CurvatureCallback | None = None) -> None:
        super().__init__()
        self.ours, self.updates, self.factors, self.bases, self.x, self.validated = ours, Updates(), [], [], [], []

    def before_step(self):
        if isinstance(self.learn.opt.opt, DCAO):
            return
        self.updates.before(self.learn.model)
        self.bases.append(self.learn.opt.hypers[-1]["lr"])
        if self.ours is not None and self.ours.control is not None and self.ours.control.decision is not None:
            self.factors.append(self.ours.control.decision.multipliers.lr)

    def after_step(self):
        self.updates.after(self.learn.model)
        if isinstance(self.learn.opt.opt, DCAO):
            self.x.append(flat([self.learn.opt.opt.average(p) for p in self.learn.model.parameters()]))

    def before_validate(self):
        self.validated.append(weights(self.learn))


class Data(TensorDataset):
    """As `export` wants it."""

    def new_empty(self) -> "Data":
        return Data(*(t[:0] for t in self.tensors))


def learner(tmp_path, *callbacks, kind="sgd", dropout=0.2) -> Learner:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(dropout), net())
    examples = Data(*data().tensors)
    dls = DataLoaders(DataLoader(examples, bs=8), DataLoader(examples, bs=8))
    made = {
        "sgd": partial(OptimWrapper, opt=torch.optim.SGD),
        "adamw": partial(OptimWrapper, opt=torch.optim.AdamW),
        "dcao": lambda *_, **__: OptimWrapper(opt=DCAO(model, mse, run="r", overhead=None, probe_interval=4)),
    }[kind]
    learn = Learner(dls, model, nn.functional.mse_loss, opt_func=made, lr=0.1, path=tmp_path, cbs=list(callbacks))
    learn.remove_cbs([c for c in learn.cbs if c.name == "progress"])
    return learn


def weights(learn: Learner) -> torch.Tensor:
    return flat(list(learn.model.parameters()))


def test_the_update_uses_the_schedule_times_the_decided_factor(tmp_path):
    """From weights and gradients: η = what `fit_one_cycle` says, times f, at every step."""
    ours = CurvatureCallback(run="r", **CONTROL)
    seen = Seen(ours)
    learner(tmp_path, ours, seen, ParamScheduler({"lr": SchedCos(0.1, 0.01)})).fit(2)
    assert len(seen.updates.rates) == 16 == ours.control.session.stats.decisions
    assert len(set(seen.bases)) == 16
    expected = [b * f for b, f in zip(seen.bases, seen.factors, strict=True)]
    assert seen.updates.rates == pytest.approx(expected, rel=1e-3)
    assert len({round(f, 6) for f in seen.factors}) > 4


def test_a_fit_that_is_only_watched_is_bit_identical(tmp_path):
    """Every bit of the weights, dropout included."""
    ours = CurvatureCallback(run="r", trust="watch", overhead=None, probe_interval=2)
    ends = []
    for learn in (lambda: learner(tmp_path), lambda: learner(tmp_path, ours)):
        made = learn()
        made.fit(2)
        ends.append(weights(made))
    assert torch.equal(*ends)
    assert ours.control.session.stats.decisions > 5


@pytest.mark.parametrize("again", ["fit", "load"])
def test_a_fit_goes_on_exactly_after_another_and_from_a_checkpoint(tmp_path, again):
    """Two times two epochs are four, in one learner (`fine_tune` fits twice) and from what `save` wrote."""

    def ours(name: str) -> CurvatureCallback:
        return CurvatureCallback(run=name, trust="auto", overhead=None, probe_interval=4)

    whole, parts, more = ours("a"), ours("b"), ours("b")
    one = learner(tmp_path, whole, kind="adamw", dropout=0.0)
    one.fit(4)
    two = learner(tmp_path, parts, kind="adamw", dropout=0.0)
    two.fit(2)
    if again == "load":
        two.save("half", with_opt=True)
        two, parts = learner(tmp_path, more, kind="adamw", dropout=0.0), more
        two.load("half", with_opt=True)
    two.fit(2)
    assert torch.equal(weights(one), weights(two))
    assert parts.control.steps == 32
    assert parts.control.decision.lr == whole.control.decision.lr
    assert parts.control.session.attempt == 2


def test_a_checkpoint_within_a_fit_holds_the_control(tmp_path):
    """`SaveModelCallback(with_opt=True)` saves while we train."""
    ours = CurvatureCallback(run="r", trust="auto", overhead=None, probe_interval=4)
    learn = learner(tmp_path, ours, SaveModelCallback(every_epoch=True, with_opt=True), kind="adamw")
    learn.fit(2)
    saved = torch.load(tmp_path / "models/model_0.pth", weights_only=False)
    assert saved["opt"]["state"]["dcao"]["controlled"]["steps"] == 8


def test_dcao_is_validated_at_x(tmp_path):
    """And trains as in a loop of one's own; the model holds x in the end."""
    seen = Seen()
    learn = learner(tmp_path, CurvatureCallback(), seen, kind="dcao", dropout=0.0)
    learn.fit(2)
    assert [torch.equal(v, seen.x[at]) for v, at in zip(seen.validated, (7, 15), strict=True)] == [True, True]
    assert torch.equal(weights(learn), seen.x[-1])
    torch.manual_seed(0)
    twin = nn.Sequential(nn.Dropout(0.0), net())
    optimizer = DCAO(twin, mse, run="r", overhead=None, probe_interval=4)
    for batch in [*loader(), *loader()]:
        optimizer.zero_grad()
        mse(twin, batch).backward()
        optimizer.step(batch=tuple(batch))
    optimizer.eval()
    assert torch.equal(weights(learn), flat(list(twin.parameters())))


@pytest.mark.parametrize("where", ["step", "_use", "state_dict", "finish"])
def test_an_exception_of_ours_stops_no_fit(tmp_path, monkeypatch, where):
    """Every step is taken as it would have been."""

    def broken(*_, **__):
        raise RuntimeError("of ours")

    monkeypatch.setattr(Attachment, where, broken)
    seen = Seen()
    learner(tmp_path, CurvatureCallback(run="r", trust="watch"), seen).fit(2)
    assert seen.updates.rates == pytest.approx([0.1] * 16, rel=1e-4)


def test_a_controller_that_is_away_stops_no_fit(tmp_path):
    """The same decisions are made in-process."""
    ours = CurvatureCallback(run="r", url="http://127.0.0.1:9", **CONTROL)
    learner(tmp_path, ours).fit(2)
    assert ours.control.session.stats.in_process == 16


def test_what_cannot_be_controlled_is_refused_with_the_fix(tmp_path):
    """fastai's own optimizers, which are none of torch's, and a schedule over a DCAO."""
    from fastai.optimizer import Adam

    learn = learner(tmp_path, CurvatureCallback(run="r"))
    learn.opt_func = Adam
    with pytest.raises(ValueError, match=r"OptimWrapper, opt=torch.optim.AdamW"):
        learn.fit(1)
    with pytest.raises(ValueError, match=r"learn.fit\(epochs\)"):
        learner(tmp_path, CurvatureCallback(), ParamScheduler({"lr": SchedCos(0.1, 0.01)}), kind="dcao").fit(1)


def test_a_learner_is_exported_with_the_callback(tmp_path):
    """The running control stays behind."""
    learn = learner(tmp_path, CurvatureCallback(run="r", trust="watch"))
    learn.fit(1)
    learn.export(tmp_path / "learner.pkl")
    assert isinstance(load_learner(tmp_path / "learner.pkl").curvature, CurvatureCallback)
