"""Ray: two workers of a `TorchTrainer` under one run, and Tune's trials each under their name."""

import json

import pytest
import ray
import ray.train
import ray.tune
import torch
from ray.train.torch import TorchTrainer, prepare_data_loader, prepare_model

from dcao_client.hooks.ray import attach, names
from tests.frameworks.regression import CONTROL, data, flat, mse, net


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The existing engine, on this machine."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_TRAIN_V2_ENABLED", "1")
        patched.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "200")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
        yield
        ray.shutdown()


def train(config: dict) -> None:
    """`train_loop_per_worker`: SGD, other batches on each worker, a decision at each of fifty steps and more."""
    torch.set_num_threads(1)
    rank = ray.train.get_context().get_world_rank()
    model = prepare_model(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = prepare_data_loader(torch.utils.data.DataLoader(data(), batch_size=4))
    factors, rates = [], []
    journal = {"journal_dir": config["folder"] + "/journal"}
    with attach(model, optimizer, mse, **journal, **CONTROL) as dcao:
        for batch in (batch for _ in range(7) for batch in loader):
            dcao.step(batch)
            optimizer.zero_grad()
            mse(model, batch).backward()
            before, gradient = flat(list(model.parameters())), flat([p.grad for p in model.parameters()])
            optimizer.step()
            moved = before - flat(list(model.parameters()))
            rates.append(float(moved @ gradient / (gradient @ gradient)))
            factors.append(dcao.decision.multipliers.lr)
    decisions = None if dcao.session is None else (dcao.session.run, dcao.session.stats.decisions)
    torch.save((flat(list(model.parameters())), decisions, rates, factors), f"{config['folder']}/{rank}.pt")


def test_two_workers_train_under_one_run(cluster, tmp_path):
    """Equal weights, one run that has the experiment's name, and η = 0.1·f in every update of both."""
    trainer = TorchTrainer(
        train,
        train_loop_config={"folder": str(tmp_path)},
        scaling_config=ray.train.ScalingConfig(num_workers=2, use_gpu=False, resources_per_worker={"CPU": 1}),
        run_config=ray.train.RunConfig(name="sharp", storage_path=str(tmp_path / "ray")),
    )
    trainer.fit()
    (one, said, *rates), (two, none, *same) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert none is None
    assert said == ("sharp", 56)
    assert torch.equal(one, two)
    for used, factors in (rates, same):
        assert used == pytest.approx([0.1 * f for f in factors], rel=1e-3)
    assert len({round(f, 6) for f in rates[1]}) > 4


def search(config: dict) -> None:
    """A trial: two steps."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    with attach(model, optimizer, mse, journal_dir=config["folder"] + "/journal", **CONTROL) as dcao:
        for batch in list(zip(*(t.split(8) for t in data().tensors), strict=True))[:2]:
            dcao.step(batch)
            optimizer.zero_grad()
            loss = mse(model, batch)
            loss.backward()
            optimizer.step()
    ray.tune.report({"loss": float(loss), "run": dcao.session.run})


def test_a_trials_run_carries_its_name(cluster, tmp_path):
    """And labels to find it by."""
    tuner = ray.tune.Tuner(
        search,
        param_space={"lr": ray.tune.grid_search([0.05, 0.1]), "folder": str(tmp_path)},
        run_config=ray.tune.RunConfig(name="rates", storage_path=str(tmp_path / "ray")),
    )
    results = tuner.fit()
    runs = {result.metrics["run"] for result in results}
    assert runs == {f"search_{result.metrics['trial_id']}" for result in results}
    headers = [json.loads(p.read_text().splitlines()[0]) for p in (tmp_path / "journal/default").glob("*.jsonl")]
    assert {h["run"] for h in headers} == runs
    assert {h["spec"]["labels"]["ray.trial"] for h in headers} == runs
    assert {h["spec"]["labels"]["ray.experiment"] for h in headers} == {"rates"}


def test_outside_of_ray_nothing_is_named():
    """The run has the name that it would have without."""
    assert names() == {"run": None, "labels": {}}
