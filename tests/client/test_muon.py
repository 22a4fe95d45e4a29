"""`DCAO(model, loss, form="muon")`: which matrices, orthogonalised how, and what is refused."""

from typing import Any

import pytest
import torch
from torch import nn

from dcao_client import DCAO
from dcao_client.hooks.forms import Adam
from dcao_client.hooks.muon import Muon, directions, hidden_matrices, metric, msign
from dcao_client.hooks.schedule_free import ScheduleFree
from dcao_experiments.data import load_digits
from dcao_experiments.models import small_cnn
from dcao_experiments.training import accuracy, batches, cross_entropy

DATA = load_digits()
NOWHERE = "/dev/null/nowhere"


def fresh(model: nn.Module, **options: Any) -> Any:
    return DCAO(model, cross_entropy, form="muon", run="r", journal_dir=NOWHERE, overhead=None, **options)


@pytest.mark.parametrize("shape", [(3, 8, 5), (2, 5, 40), (1, 6, 6)])
def test_msign_keeps_the_singular_vectors_and_evens_the_values(shape):
    """U·f(S)·Vᵀ with f within 0.7 … 1.2, for values over three orders of magnitude, at any scale."""
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    values = torch.logspace(-2, 0, min(shape[1:]), dtype=torch.float64)
    for scale in (1e-12, 1.0, 1e12):
        found = u.mT @ msign(u * (scale * values) @ v) @ v.mT
        assert float((found - torch.diag_embed(found.diagonal(dim1=1, dim2=2))).abs().max()) < 1e-9
        large = found.diagonal(dim1=1, dim2=2)[:, values > 0.03]
        assert 0.65 < float(large.min()) <= float(large.max()) < 1.25
    assert torch.equal(msign(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


def test_the_update_is_a_gradient_under_its_metric():
    """⟨m̂, d⟩ = P·‖d‖² for every matrix; an update is as long as Adam's, 0.2 an entry."""
    torch.manual_seed(0)
    momenta = [torch.randn(20, 6), torch.randn(20, 2, 3), torch.randn(4, 30)]
    d = directions(momenta)
    for m, u, P in zip(momenta, d, metric(momenta, d, bias=0.5), strict=True):
        assert u.shape == m.shape
        assert float((m / 0.5 * u).sum()) == pytest.approx(float(P * (u * u).sum()), rel=1e-5)
        assert float(u.square().mean().sqrt()) == pytest.approx(0.2, rel=0.2)
    torch.testing.assert_close(d[1].reshape(20, 6), directions([momenta[1].reshape(20, 6)])[0])


def test_hidden_matrices_are_neither_embeddings_nor_the_first_or_last_layer():
    class Language(nn.Module):
        def __init__(self, tied: bool) -> None:
            super().__init__()
            self.embed, self.position = nn.Embedding(50, 8), nn.Parameter(torch.zeros(16, 8))
            self.block = nn.TransformerEncoderLayer(8, 2, 16)
            self.head = nn.Linear(8, 50, bias=False)
            if tied:
                self.head.weight = self.embed.weight

    def names(model: nn.Module) -> list[str]:
        chosen = {id(p) for p in hidden_matrices(model)}
        return [name for name, p in model.named_parameters() if id(p) in chosen]

    inner = ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"]
    for tied in (False, True):
        assert names(Language(tied)) == [f"block.{name}" for name in inner]
    assert names(small_cnn(8, width=4)) == ["3.weight", "6.weight"]
    assert names(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))) == []
    grouped = nn.Conv2d(4, 4, 3, groups=4)
    assert names(nn.Sequential(nn.Conv2d(1, 4, 3), grouped, nn.Conv2d(4, 4, 1), nn.Linear(4, 2))) == ["2.weight"]


def test_it_learns_without_a_rate():
    torch.manual_seed(0)
    model = small_cnn(8, width=4)
    optimizer = fresh(model)
    for batch in batches(DATA, 64, 150, seed=1):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()
        optimizer.step(batch=batch)
    assert optimizer.control.session.spec.optimizer == "schedule_free_muon"
    assert optimizer.control.spectrum.status == "ok"
    assert optimizer.control.decision.multipliers.lr == pytest.approx(1.2)
    optimizer.eval()
    assert accuracy(model, DATA.x_test, DATA.y_test) > 0.8
    kept = {name: set(optimizer.state[p]) for name, p in model.named_parameters()}
    assert kept["3.weight"] == {"z", "momentum_buffer", "y"}
    assert kept["0.weight"] == {"z", "exp_avg_sq", "y"}


def test_a_group_says_its_own_form():
    """Over the rule, also in a group that is added later; what cannot be is refused and leaves nothing behind."""
    model = small_cnn(8, width=4)
    first, second, third, head = (m for m in model if hasattr(m, "weight") and m.weight.ndim > 1)
    optimizer = fresh(
        model, params=[{"params": [first.weight], "form": "muon"}, {"params": [second.weight, head.bias]}]
    )
    names = [optimizer.form.name_of(p) for p in (first.weight, second.weight, head.bias)]
    assert names == ["momentum_buffer", "momentum_buffer", "exp_avg_sq"]
    optimizer.add_param_group({"params": [third.weight], "form": "adam"})
    assert optimizer.form.name_of(third.weight) == "exp_avg_sq"
    with pytest.raises(ValueError, match=r"expected matrices in a group of form 'muon', got shape \(4,\)"):
        optimizer.add_param_group({"params": [model[1].weight], "form": "muon"})
    with pytest.raises(ValueError, match="expected a group's form 'muon' or 'adam' under form 'muon', got 'sgd'"):
        optimizer.add_param_group({"params": [head.weight], "form": "sgd"})
    assert len(optimizer.param_groups) == 3
    with pytest.raises(ValueError, match="expected the group's form to be that of the optimizer, 'adam', got 'muon'"):
        ScheduleFree([{"params": [head.weight], "form": "muon"}])


def test_a_checkpoint_of_another_form_is_refused():
    ends = {}
    for form in ("adam", "muon"):
        torch.manual_seed(0)
        model = small_cnn(8, width=4)
        ends[form] = DCAO(model, cross_entropy, form=form, run="r", journal_dir=NOWHERE, overhead=None)
        batch = next(batches(DATA, 64, 1, seed=1))
        cross_entropy(model, batch).backward()
        ends[form].step(batch=batch)
    for saved, loaded in (("adam", "muon"), ("muon", "adam")):
        before = {p: dict(s) for p, s in ends[loaded].state.items()}
        with pytest.raises(ValueError, match="expected a checkpoint of the same form, with "):
            ends[loaded].load_state_dict(ends[saved].state_dict())
        assert all(dict(s) == before[p] for p, s in ends[loaded].state.items())


def test_half_precision_keeps_momentum_in_float32():
    p = nn.Parameter(torch.randn(6, 4, dtype=torch.bfloat16))
    optimizer = ScheduleFree([p], form="muon")
    for _ in range(3):
        p.grad = torch.randn(6, 4, dtype=torch.bfloat16)
        optimizer.prepare()
        optimizer.update(0.1)
    assert optimizer.state[p]["momentum_buffer"].dtype == torch.float32
    assert p.dtype == torch.bfloat16
    assert optimizer.form.preconditioned
    assert isinstance(optimizer.form, Muon)
    assert isinstance(optimizer.form.rest, Adam)
