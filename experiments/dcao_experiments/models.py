"""Small networks that train on two cores in seconds."""

import torch
from torch import Tensor, nn


def small_cnn(side: int, *, norm: bool = True, width: int = 16) -> nn.Sequential:
    """Three convolutions with batch norm and ReLU, global average pooling, ten classes.

    Args:
        side: image side in pixels; larger images are strided down more.
        norm: batch normalisation.
        width: channels of the first layer.
    """
    stride = 1 if side <= 8 else 2
    layers: list[nn.Module] = []
    channels = 1
    for factor, step in ((1, stride), (2, 2), (2, stride)):
        layers.append(nn.Conv2d(channels, width * factor, 3, stride=step, padding=1, bias=not norm))
        if norm:
            layers.append(nn.BatchNorm2d(width * factor))
        layers.append(nn.ReLU())
        channels = width * factor
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(channels * 4, 10))


class Block(nn.Module):
    """Pre-norm self-attention and a two-layer perceptron, as in Dosovitskiy et al. 2021, §3.1."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        heads = self.qkv(self.before_attention(x)).view(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = heads.unbind()
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, tokens, width))
        mixed: Tensor = x + self.mlp(self.before_mlp(x))
        return mixed


class SmallViT(nn.Module):
    """A vision transformer on sixteen patches, ten classes from their mean.

    Args:
        side: image side in pixels, a multiple of four.
        width: of a token.
    """

    def __init__(self, side: int, *, width: int = 32, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, side // 4, stride=side // 4)
        self.positions = nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        scores: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return scores
