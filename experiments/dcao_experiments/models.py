"""Small networks that train on two cores in seconds."""

from torch import nn


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
