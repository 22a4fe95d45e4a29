"""An Accelerate loop under control."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from dcao_client.hooks.accelerate import attach
from tests.frameworks.regression import CONTROL, Updates, data, flat, mse, net, run_ranks


class Loop:
    """Model, optimizer and schedule as `prepare` returns them, with or without us."""

    def __init__(self, *, accumulate: int = 1, **options: object) -> None:
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        # Accelerate steps the scheduler once for each process.
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.99**step)
        loader = torch.utils.data.DataLoader(data(), batch_size=4)
        self.model, self.optimizer, self.loader, self.scheduler = self.accelerator.prepare(
            model, optimizer, loader, scheduler
        )
        self.dcao = attach(self.accelerator, self.model, self.optimizer, mse, **options) if options else None
        self.updates, self.factors = Updates(), []

    def run(self, epochs: int) -> torch.Tensor:
        """The weights at the end."""
        inner = self.accelerator.unwrap_model(self.model)
        for batch in (batch for _ in range(epochs) for batch in self.loader):
            with self.accelerator.accumulate(self.model):
                if self.dcao is not None:
                    self.dcao.step(batch)
                self.accelerator.backward(mse(self.model, batch))
                if self.accelerator.sync_gradients:
                    self.updates.before(inner)
                    if self.dcao is not None:
                        self.factors.append(self.dcao.decision.multipliers.lr)
                self.optimizer.step()
                self.updates.after(inner)
                self.scheduler.step()
                self.optimizer.zero_grad()
        return flat(list(inner.parameters()))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_update_uses_the_schedule_times_the_decided_factor(accumulate):
    """From weights and gradients: η = 0.1·0.99ᵗ·f at every optimizer step."""
    loop = Loop(accumulate=accumulate, run="r", **CONTROL)
    loop.run(2)
    assert len(loop.updates.rates) == 32 // accumulate == loop.dcao.session.stats.decisions
    expected = [0.1 * 0.99**t * f for t, f in enumerate(loop.factors)]
    assert loop.updates.rates == pytest.approx(expected, rel=1e-3)
    assert len({round(f, 6) for f in loop.factors}) > 4


def test_a_loop_that_is_only_watched_is_bit_identical():
    """Every bit of the weights."""
    assert torch.equal(Loop().run(2), Loop(run="r", trust="watch", overhead=None, probe_interval=2).run(2))


def test_load_state_goes_on_exactly(tmp_path):
    """What `save_state` wrote is all that is needed."""
    options = {"run": "r", "trust": "auto", "overhead": None, "probe_interval": 4}
    loop = Loop(**options)
    loop.run(1)
    loop.accelerator.save_state(str(tmp_path / "saved"))
    whole = loop.run(1)
    again = Loop(**options)
    again.accelerator.load_state(str(tmp_path / "saved"))
    assert torch.equal(again.run(1), whole)
    assert again.dcao.decision.lr == loop.dcao.decision.lr
    assert again.dcao.session.attempt == loop.dcao.session.attempt + 1


def test_two_ranks_hold_equal_weights(tmp_path):
    """DDP over gloo, other batches on each rank, fifty decisions and more."""
    run_ranks(Path(__file__).with_name("accelerate_rank.py"), str(tmp_path))
    (one, decisions), (two, none) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert decisions >= 50
    assert none is None
    assert torch.equal(one, two)
