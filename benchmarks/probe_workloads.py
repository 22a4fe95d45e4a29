"""Models, real data and short trainings that the probe's benchmarks share."""

from __future__ import annotations

import gzip
import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]

FASHION = Path("/usr/share/datasets/fashion-mnist")  # Debian package dataset-fashion-mnist
TEXT = Path("/usr/share/doc/anarchism/html")  # Debian package anarchism (1.8 M words of prose)


def fashion(part: str = "train", folder: Path = FASHION) -> Batch:
    """Fashion-MNIST as (n, 1, 28, 28) floats of mean 0 and variance 1, and labels."""
    prefix = "train" if part == "train" else "t10k"
    if not folder.is_dir():
        raise FileNotFoundError(f"expected Fashion-MNIST's IDX files in {folder}; install dataset-fashion-mnist")
    images = gzip.decompress((folder / f"{prefix}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())[8:]
    x = torch.from_numpy(np.frombuffer(images, np.uint8).copy()).view(-1, 1, 28, 28).float() / 255
    return (x - 0.2860) / 0.3530, torch.from_numpy(np.frombuffer(labels, np.uint8).copy()).long()


def text(path: Path = TEXT) -> Tensor:
    """Bytes of a text file, or of a folder of HTML files without their tags."""
    if path.is_dir():
        pages = [
            html.unescape(re.sub(r"<[^>]+>", "", p.read_text("utf8", "ignore"))) for p in sorted(path.glob("*.html"))
        ]
        raw = re.sub(r"\s+", " ", " ".join(pages)).encode()
    elif path.is_file():
        raw = path.read_bytes()
    else:
        raise FileNotFoundError(f"expected a text file or a folder of HTML at {path}; install anarchism or pass --text")
    return torch.from_numpy(np.frombuffer(raw, np.uint8).copy()).long()


class Residual(nn.Module):
    """Two 3×3 convolutions with batch norm and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.short = nn.Sequential() if inputs == outputs and stride == 1 else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.short(x))


def resnet(width: int = 16) -> nn.Module:
    """Seven-convolution batch-norm residual network on 28×28 images; 77 k parameters at width 16."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        Residual(width, width, 2),
        Residual(width, 2 * width, 2),
        Residual(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )


def cnn() -> nn.Module:
    """The plain convolutional network of tutorials: two convolutions, pooling, two linear layers; 421 k parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, 1, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, 1, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


class Block(nn.Module):
    """Pre-norm causal self-attention and a GELU layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(self.first(x)).view(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        a = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(a.transpose(1, 2).reshape(n, t, c))
        return x + self.down(nn.functional.gelu(self.up(self.second(x)), approximate="tanh"))


class GPT(nn.Module):
    """GPT-2's architecture. The defaults are GPT-2 Small's: 124,439,808 parameters with the head tied."""

    def __init__(
        self, vocabulary: int = 50257, context: int = 1024, width: int = 768, layers: int = 12, heads: int = 12
    ) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.places.weight[: x.shape[1]]
        for block in self.blocks:
            h = block(h)
        return self.head(self.norm(h))


def small_gpt() -> GPT:
    """Byte-level GPT: four layers of width 128, context 64; 0.83 M parameters."""
    return GPT(vocabulary=256, context=64, width=128, layers=4, heads=4)


class Towers(nn.Module):
    """Two separate MLPs in one module, so that the Hessian has two separate blocks."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.left, self.right = (
            nn.Sequential(nn.Linear(392, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 10))
            for _ in range(2)
        )
        self.register_buffer("share", torch.tensor(1.0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        halves = x.flatten(1).split(392, dim=1)
        return self.left(halves[0]), self.right(halves[1])


def classify(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of images or of next bytes."""
    out = model(batch[0])
    return nn.functional.cross_entropy(out.flatten(0, -2), batch[1].flatten())


def towers_loss(model: nn.Module, batch: Batch) -> Tensor:
    """L_left + share·L_right. H is block-diagonal, so ``share`` sets λ₁/λ₂ to anything."""
    left, right = model(batch[0])
    cross = nn.functional.cross_entropy
    return cross(left, batch[1]) + model.share * cross(right, batch[1])


@dataclass(frozen=True)
class Workload:
    """A model in training: build it, draw its batches, step it."""

    name: str
    build: Callable[[], nn.Module]
    loss: Callable[[nn.Module, Batch], Tensor]
    batches: Callable[[int], Iterator[Batch]]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    batch_size: int


def _images(size: int) -> Callable[[int], Iterator[Batch]]:
    def draw(seed: int) -> Iterator[Batch]:
        x, y = fashion()
        generator = torch.Generator().manual_seed(seed)
        while True:
            for index in torch.randperm(len(x), generator=generator).split(size):
                if len(index) == size:
                    yield x[index], y[index]

    return draw


def byte_batches(size: int, context: int, path: Path) -> Callable[[int], Iterator[Batch]]:
    """Draws (size, context) windows of the text and their next bytes, from a seed."""

    def draw(seed: int) -> Iterator[Batch]:
        stream = text(path)
        generator = torch.Generator().manual_seed(seed)
        offsets = torch.arange(context + 1)
        while True:
            at = torch.randint(0, len(stream) - context - 1, (size, 1), generator=generator)
            window = stream[at + offsets]
            yield window[:, :-1], window[:, 1:]

    return draw


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)


def _adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)


def workloads(path: Path = TEXT) -> dict[str, Workload]:
    """The trainings the probe is measured along."""
    gpt_bytes = byte_batches(32, 64, path)
    return {
        "resnet": Workload("resnet", resnet, classify, _images(128), _sgd, 128),
        "cnn": Workload("cnn", cnn, classify, _images(128), _sgd, 128),
        "gpt": Workload("gpt", small_gpt, classify, gpt_bytes, _adamw, 32),
        "mlp": Workload("mlp", Towers, towers_loss, _images(1024), _sgd, 1024),
    }


def train(work: Workload, steps: int, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer, Iterator[Batch]]:
    """The model after ``steps`` steps, its optimizer, and the batches that follow."""
    torch.manual_seed(seed)
    model = work.build()
    optimizer = work.optimizer(model)
    stream = work.batches(seed)
    for _ in range(steps):
        step(work, model, optimizer, next(stream))
    return model, optimizer, stream


def step(work: Workload, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    """One ordinary training step; its loss."""
    optimizer.zero_grad()
    value = work.loss(model, batch)
    value.backward()
    optimizer.step()
    return float(value.detach())
