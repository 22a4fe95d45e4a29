"""A worker that trains on real images under a controller: what the compose file's demo profile runs.

Everything by the environment: `DCAO_URL`, `DCAO_RUN`, … as for any client, and `DCAO_DEMO_STEPS`,
`DCAO_DEMO_PROBE_INTERVAL`, `DCAO_DEMO_SEED`, `DCAO_DEMO_PAUSE`.
"""

import logging
import time

import torch
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from dcao_client import DCAO
from dcao_experiments.data import load_digits
from dcao_experiments.models import small_cnn
from dcao_experiments.training import accuracy, batches, cross_entropy, train


class WorkerSettings(BaseSettings):
    """How long and how the demo worker trains."""

    model_config = SettingsConfigDict(env_prefix="DCAO_DEMO_", extra="ignore", frozen=True)

    steps: int = Field(default=2000, ge=1, description="Optimizer steps.")
    probe_interval: int = Field(default=10, ge=1, description="Steps between probes, or more where the budget says so.")
    seed: int = Field(default=0, description="Seed of weights and batches.")
    pause: float = Field(default=0.0, ge=0, description="Seconds to wait after each step, to watch it live.")


def main() -> None:
    """Trains to the end, whatever the controller does meanwhile."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request
    settings = WorkerSettings()
    torch.manual_seed(settings.seed)
    data = load_digits()
    model = small_cnn(8)
    optimizer = DCAO(
        model,
        cross_entropy,
        probe_interval=settings.probe_interval,
        labels={"data": "digits", "model": "cnn"},
    )
    stream = batches(data, 128, settings.steps, settings.seed)
    for report in train(model, optimizer, stream):
        if report.probed and report.step % 100 == 0:
            logging.info("step %d loss %.4f applied %s", report.step, report.loss, report.applied)
        time.sleep(settings.pause)
    session = optimizer.control.session
    assert session is not None  # noqa: S101  (a single process has one)
    delivered = session.flush(60)
    optimizer.control.finish()
    optimizer.eval()
    logging.info("test accuracy %.3f, history delivered: %s", accuracy(model, data.x_test, data.y_test), delivered)


if __name__ == "__main__":
    main()
