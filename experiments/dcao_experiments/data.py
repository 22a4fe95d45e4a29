"""Real images that packages carry."""

import gzip
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dcao_experiments.demo import FASHION_MNIST_DIR


class Images(NamedTuple):
    """Training and test images, float32 in [0, 1], N×1×H×W, with labels 0…9."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def load_digits() -> Images:
    """scikit-learn's digits: 1,797 grey images of 8×8, the last 297 for testing (they are other writers')."""
    from sklearn.datasets import load_digits as load

    data = load()
    x = torch.from_numpy(data.images.astype(np.float32) / 16.0).unsqueeze(1)
    y = torch.from_numpy(data.target.astype(np.int64))
    return Images(x[:1500], y[:1500], x[1500:], y[1500:])


def load_fashion_mnist(directory: Path = FASHION_MNIST_DIR) -> Images:
    """Fashion-MNIST: 60,000 + 10,000 grey images of 28×28 from its IDX files.

    Raises:
        FileNotFoundError: the files are not there; the message says how to get them.
    """
    if not (directory / "train-images-idx3-ubyte.gz").exists():
        raise FileNotFoundError(
            f"expected Fashion-MNIST's four IDX files in {directory}; apt-get install dataset-fashion-mnist puts them "
            f"into {FASHION_MNIST_DIR}"
        )
    parts = [_read_idx(directory / f"{part}-{kind}-ubyte.gz") for part in ("train", "t10k") for kind in KINDS]
    x, y, x_test, y_test = parts
    return Images(_as_images(x), y.long(), _as_images(x_test), y_test.long())


KINDS = ("images-idx3", "labels-idx1")


def _read_idx(path: Path) -> Tensor:
    """An IDX file: two zero bytes, element type 8 (unsigned byte), rank, the sizes big-endian, the elements."""
    with gzip.open(path) as file:
        content = file.read()
    zero, kind, rank = int.from_bytes(content[:2], "big"), content[2], content[3]
    if zero != 0 or kind != 8:
        raise ValueError(f"expected {path} to be an IDX file of unsigned bytes, got magic {content[:4].hex()}")
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=4 + 4 * rank).copy()).reshape(shape)


def _as_images(x: Tensor) -> Tensor:
    return (x.float() / 255.0).unsqueeze(1)
