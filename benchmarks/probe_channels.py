"""What a gradient of convolutional networks costs with the channels innermost, in that of the usual order.

    python benchmarks/probe_channels.py [--threads 1]

Side by side, the median of fifteen; float32, random images. The probe's differences use the faster order on the CPU
(``dcao_client.spectrum.torch.channels_last``).
"""

from __future__ import annotations

import argparse
import copy
import statistics

import torch
from probe_meter import cpu_seconds, plain_gradient
from probe_workloads import Batch, classify, cnn, resnet
from torch import Tensor, nn

from dcao_client.spectrum.torch.channels_last import images_reordered, reordered

REPEATS = 15


def _separable(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU6(),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )


def _ended(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]


def depthwise() -> nn.Module:
    """The blocks of mobile networks."""
    first = nn.Conv2d(3, 32, 3, 2, 1)
    return nn.Sequential(first, _separable(32, 64, 1), _separable(64, 128, 2), _separable(128, 128, 1), *_ended(128))


def vgg() -> nn.Module:
    """3×3 convolutions without normalisation."""
    widths = [(3, 64), (64, 64), (64, 128), (128, 256)]
    layers: list[nn.Module] = []
    for inputs, outputs in widths:
        layers += [nn.Conv2d(inputs, outputs, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, *_ended(256))


def lenet() -> nn.Module:
    """The smallest there is."""
    convolutions = [nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 10))


class UNet(nn.Module):
    """One level down and up, with group norm and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(3, 32, 3, 1, 1), nn.Conv2d(32, 64, 3, 2, 1)
        self.norm, self.middle = nn.GroupNorm(8, 64), nn.Conv2d(64, 64, 3, 1, 1)
        self.up, self.last = nn.ConvTranspose2d(64, 32, 2, 2), nn.Conv2d(64, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.first(x))
        b = torch.relu(self.middle(nn.functional.silu(self.norm(self.down(a)))))
        return self.last(torch.cat([self.up(b), a], 1)).mean((2, 3))


class Patches(nn.Module):
    """A vision transformer's layer: its one convolution cuts the patches."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 192, 4, 4)
        self.layer = nn.TransformerEncoderLayer(192, 4, 384, 0.0, batch_first=True)
        self.head = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.cut(x).flatten(2).transpose(1, 2)).mean(1))


# Name, model, channels and side of its images, batch.
NETWORKS = [
    ("batch-norm ResNet, width 16", resnet(16), 1, 28, 128),
    ("the same, batch 32", resnet(16), 1, 28, 32),
    ("width 64, batch 32", resnet(64), 1, 28, 32),
    ("width 8", resnet(8), 1, 28, 128),
    ("CNN", cnn(), 1, 28, 128),
    ("depthwise", depthwise(), 3, 32, 64),
    ("VGG", vgg(), 3, 32, 32),
    ("U-Net", UNet(), 3, 32, 32),
    ("vision transformer", Patches(), 3, 32, 32),
    ("LeNet", lenet(), 1, 28, 128),
]


def ratio(model: nn.Module, batch: Batch) -> float:
    """Median time with the channels innermost over that of the usual order."""
    other, images = copy.deepcopy(model), images_reordered(batch)
    for parameter in other.parameters():
        parameter.data = reordered(parameter.data)
    usual, faster = [], []
    for _ in range(REPEATS):
        usual.append(cpu_seconds(lambda: plain_gradient(model, classify, batch))[1])
        faster.append(cpu_seconds(lambda: plain_gradient(other, classify, images))[1])
    return statistics.median(faster) / statistics.median(usual)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    torch.manual_seed(0)
    for name, model, channels, side, size in NETWORKS:
        batch = torch.randn(size, channels, side, side), torch.randint(0, 10, (size,))
        print(f"{name:30} {ratio(model, batch):.2f}", flush=True)


if __name__ == "__main__":
    main()
