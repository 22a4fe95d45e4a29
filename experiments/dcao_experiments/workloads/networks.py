"""Small networks of the kinds that people train."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional


def deep_mlp(depth: int = 8, width: int = 100) -> nn.Module:
    """Eight layers without normalisation, He initialisation."""
    sizes = [784, *[width] * (depth - 1), 10]
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (a, b) in enumerate(itertools.pairwise(sizes)):
        linear = nn.Linear(a, b)
        nn.init.kaiming_normal_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers += [linear] if i == depth - 1 else [linear, nn.ReLU()]
    return nn.Sequential(*layers)


def plain_mlp(inputs: int = 64, depth: int = 6, width: int = 64) -> nn.Module:
    """Torch's own initialisation, under which a deep network without normalisation begins on a plateau."""
    sizes = [inputs, *[width] * depth]
    hidden = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))


def plain_cnn(*, he: bool) -> nn.Module:
    """Six convolutions without normalisation; torch's default initialisation, or He's."""
    layers: list[nn.Module] = []
    channels = 1
    for width, stride in zip((16, 16, 32, 32, 32, 32), (2, 1, 2, 1, 2, 1), strict=True):
        layers += [nn.Conv2d(channels, width, 3, stride, 1), nn.ReLU()]
        channels = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 10))
    if he:
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
    return model


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm around a skip connection."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.b = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm_a, self.norm_b = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        same = channels == width and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm_b(self.b(functional.relu(self.norm_a(self.a(x)))))
        return functional.relu(inner + self.skip(x))


def resnet() -> nn.Module:
    """A batch-norm ResNet of seven layers on 3×16×16."""
    blocks = (ResidualBlock(16, 16, 1), ResidualBlock(16, 32, 2), ResidualBlock(32, 64, 2))
    stem = (nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 16))


class Transformer(nn.Module):
    """A small transformer on bytes (causal) or on 7×7 patches of 28×28 images; pre- or post-LN."""

    def __init__(self, *, width: int, heads: int, depth: int, length: int, post: bool, text: bool) -> None:
        super().__init__()
        self.text, self.post, self.heads = text, post, heads
        scale = 0.1 if post else 0.02
        self.embed: nn.Module = nn.Embedding(256, width) if text else nn.Linear(49, width)
        self.position = nn.Parameter(torch.randn(length, width) * scale)
        self.blocks = nn.ModuleList(nn.ModuleDict(self._block(width)) for _ in range(depth))
        self.last = nn.Identity() if post else nn.LayerNorm(width)
        self.head = nn.Linear(width, 256 if text else 10)
        if text:
            nn.init.normal_(self.embed.weight, std=scale)  # type: ignore[arg-type]
        if text and not post:
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=0.02)
                    nn.init.zeros_(module.bias)

    @staticmethod
    def _block(width: int) -> dict[str, nn.Module]:
        return {
            "qkv": nn.Linear(width, 3 * width), "out": nn.Linear(width, width),
            "up": nn.Linear(width, 4 * width), "down": nn.Linear(4 * width, width),
            "norm_a": nn.LayerNorm(width), "norm_b": nn.LayerNorm(width),
        }  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if not self.text:
            x = x.reshape(len(x), 4, 7, 4, 7).transpose(2, 3).reshape(len(x), 16, 49)
        h = self.embed(x) + self.position[: x.shape[1]]
        for block in self.blocks:
            if self.post:
                h = block["norm_a"](h + self._attend(block, h))
                h = block["norm_b"](h + self._feed(block, h))
            else:
                h = h + self._attend(block, block["norm_a"](h))
                h = h + self._feed(block, block["norm_b"](h))
        h = self.last(h)
        return self.head(h if self.text else h.mean(1))

    def _attend(self, block: nn.ModuleDict, x: Tensor) -> Tensor:
        n, length, width = x.shape
        q, k, v = block["qkv"](x).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.text)
        return block["out"](mixed.transpose(1, 2).reshape(n, length, width))

    def _feed(self, block: nn.ModuleDict, x: Tensor) -> Tensor:
        return block["down"](functional.gelu(block["up"](x)))


class ByteLSTM(nn.Module):
    """One LSTM layer on bytes."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, 32)
        self.lstm = nn.LSTM(32, width, batch_first=True)
        self.head = nn.Linear(width, 256)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(x))[0])


class Mixer(nn.Module):
    """An MLP-Mixer on 3×16×16: sixteen patches, three blocks."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm_a": nn.LayerNorm(width),
                    "norm_b": nn.LayerNorm(width),
                    "tokens": nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)),
                    "channels": nn.Sequential(nn.Linear(width, 96), nn.GELU(), nn.Linear(96, width)),
                }
            )
            for _ in range(3)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 16)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patch(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            h = h + block["tokens"](block["norm_a"](h).transpose(1, 2)).transpose(1, 2)
            h = h + block["channels"](block["norm_b"](h))
        return self.head(self.norm(h).mean(1))
