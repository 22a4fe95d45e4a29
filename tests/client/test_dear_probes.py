"""What probes cost a run of `DCAO(model, loss)`: at most 5 % of the gradients, whatever couples or is small."""

import pytest
import torch
from torch import nn

from dcao_client import DCAO
from dcao_client.hooks.dear_probes import DearProbes

STEPS = 320


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def network(normalised):
    torch.manual_seed(0)
    middle = nn.BatchNorm1d(12) if normalised else nn.Identity()
    return nn.Sequential(nn.Linear(6, 12), middle, nn.Tanh(), nn.Linear(12, 3))


def batch(step, size):
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(size, 6, generator=generator)
    return x, x[:, :3].argmax(1)


def probes(model, optimizer, size, steps):
    """(step, examples, gradients of a whole batch) of each probe."""
    found = []
    for step in steps:
        one = batch(step, size)
        optimizer.zero_grad()
        loss(model, one).backward()
        before = optimizer.control.spectrum
        optimizer.step(batch=one)
        spectrum = optimizer.control.spectrum
        if spectrum is not before:
            assert spectrum.status == "ok"
            found.append((step, spectrum.examples, (1 + spectrum.matvecs) * spectrum.examples / size))
    return found


def fresh(normalised, **options):
    model = network(normalised)
    return model, DCAO(model, loss, run="dear", journal_dir="/dev/null/nowhere", overhead=None, **options)


@pytest.mark.parametrize(
    ("normalised", "size", "measured", "paid_after"),
    [
        (True, 64, 32, 320),
        (True, 128, 64, 320),
        (True, 48, 48, 500),
        (False, 16, 8, 320),
        (False, 8, 8, 500),
    ],
)
def test_dear_probes_of_the_start_are_few_and_paid_back(normalised, size, measured, paid_after):
    model, optimizer = fresh(normalised)
    found = probes(model, optimizer, size, range(paid_after))
    assert [step for step, _, _ in found if step < 100] == [0, 1, 4, 16]
    assert {examples for _, examples, _ in found} == {measured}
    assert sum(cost for _, _, cost in found) <= 0.05 * paid_after


def test_a_quarter_of_a_batch_is_no_dear_probe():
    model, optimizer = fresh(normalised=False)
    found = probes(model, optimizer, 32, range(STEPS))
    assert [step for step, _, _ in found] == [0, 1, 2, 4, 8, 16, 32, *range(64, STEPS, 48)]
    assert {examples for _, examples, _ in found} == {8}


def test_an_interval_that_was_set_is_kept():
    model, optimizer = fresh(normalised=True, probe_interval=10)
    assert [step for step, _, _ in probes(model, optimizer, 64, range(40))] == [0, 1, 2, 4, 8, 16, 26, 36]


def test_a_run_that_goes_on_owes_what_it_owed():
    model, optimizer = fresh(normalised=True)
    before = probes(model, optimizer, 64, range(60))
    weights, state = model.state_dict(), optimizer.state_dict()
    other, resumed = fresh(normalised=True)
    other.load_state_dict(weights)
    resumed.load_state_dict(state)
    after = probes(other, resumed, 64, range(60, STEPS))
    uninterrupted = probes(*fresh(normalised=True), 64, range(STEPS))
    assert before + after == uninterrupted


def test_what_is_owed_is_what_was_measured():
    """Sixteen gradients at 5 % are 320 steps; the next probe, of four halves, has to be earned too."""
    owing = DearProbes()
    assert owing.next_in(0, 1, matvecs=7, share=1.0) == 1
    assert owing.next_in(1, 1, matvecs=3, share=1.0) == 3
    assert owing.next_in(4, 4, matvecs=3, share=1.0) == 12
    assert owing.gradients == 16.0
    assert owing.next_in(16, 16, matvecs=3, share=1.0) == 20 * 24 - 16
    assert owing.next_in(480, 32, matvecs=0, share=0.25) == 32
