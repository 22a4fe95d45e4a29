"""A small network that trains up to its edge of stability, on real images: what the pictures show.

Full-batch gradient descent with the square loss on the digits of scikit-learn, as in Cohen et al. 2021 §3: sharpness
rises until it meets the edge and hovers there. `DCAO_URL`, `DCAO_RUN`, … as for any client; the policy is the argument.
"""

import sys
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

from dcao_client import attach
from dcao_experiments.data import load_digits

PAUSE_SECONDS = 0.004  # so that the run is live for as long as the pictures take


def square_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Half the squared distance to the one-hot label, summed over classes, mean over examples."""
    images, labels = batch
    wanted = functional.one_hot(labels, 10).float()
    return 0.5 * (model(images.flatten(1)) - wanted).square().sum(1).mean()


def main() -> int:
    """Trains until it is killed."""
    policy = sys.argv[1]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = load_digits()
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.12, momentum=0.5, weight_decay=1e-5)
    dcao = attach(
        model,
        optimizer,
        square_loss,
        policy=policy,
        probe_interval=20,
        labels={"data": "digits", "model": "mlp"},
    )
    batch = (data.x, data.y)
    while True:
        dcao.step(batch)
        optimizer.zero_grad()
        square_loss(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
