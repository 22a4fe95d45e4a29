"""Real data that packages carry, as tensors: images, colour patches, text."""

from __future__ import annotations

import html
import os
import re
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dcao_experiments.data import load_fashion_mnist

CACHE = Path(os.environ.get("DCAO_BENCH_DATA", Path.home() / ".cache" / "dcao-bench"))
TRAIN_IMAGES, TEST_IMAGES = 30_000, 2_000
SIDE = 16  # of a colour patch
ROWS, COLUMNS, STRIPS = 2, 4, 3  # fields that a photograph is cut into, and strips of a field

Split = tuple[Tensor, Tensor, Tensor, Tensor]


@lru_cache(maxsize=1)
def fashion_whole() -> Split:
    """Fashion-MNIST, standardised: 60,000 + 10,000 grey images 1×28×28."""
    cached = CACHE / "fashion.npz"  # for machines without the Debian package
    if cached.exists():
        z = np.load(cached)
        x, y, x_test, y_test = (torch.from_numpy(z[name]) for name in ("x", "y", "x_test", "y_test"))
        x, x_test = x.float().div_(255), x_test.float().div_(255)
    else:
        x, y, x_test, y_test = load_fashion_mnist()
    return (x - 0.286) / 0.353, y.long(), (x_test - 0.286) / 0.353, y_test.long()


@lru_cache(maxsize=1)
def fashion() -> Split:
    """The first 30,000 to train on, and 2,000 to test."""
    x, y, x_test, y_test = fashion_whole()
    return x[:TRAIN_IMAGES], y[:TRAIN_IMAGES], x_test[:TEST_IMAGES], y_test[:TEST_IMAGES]


@lru_cache(maxsize=1)
def digits() -> Split:
    """scikit-learn's 1,797 digits, 8×8, in [0, 1]: 1,400 to train on, the rest to test."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x, y = torch.from_numpy(images).float()[order] / 16, torch.from_numpy(labels).long()[order]
    return x[:1400], y[:1400], x[1400:], y[1400:]


@lru_cache(maxsize=1)
def patches() -> Split:
    """Colour patches of scikit-learn's two photographs, 3×16×16: which of sixteen places of them it shows.

    Each photograph is cut into 2×4 fields, each field into three strips. Training patches lie in the left of a strip,
    test patches in its last 18 pixels, so that no pixel is in both and the light is the same. (How often a patch was
    turned cannot be told from so few pixels: networks stay at chance on it.)
    """
    from sklearn.datasets import load_sample_images

    generator = torch.Generator().manual_seed(0)
    sets: dict[str, list[Tensor]] = {"x": [], "y": [], "x_test": [], "y_test": []}
    pictures = [torch.from_numpy(i.astype(np.float32) / 255.0).permute(2, 0, 1) for i in load_sample_images().images]
    fields = [field for p in pictures for row in p.chunk(ROWS, 1) for field in row.chunk(COLUMNS, 2)]
    for place, field in enumerate(fields):
        for strip in field.chunk(STRIPS, 2):
            edge = strip.shape[2] - SIDE - 2
            for part, count, suffix in ((strip[:, :, :edge], 400, ""), (strip[:, :, edge:], 40, "_test")):
                rows = torch.randint(0, part.shape[1] - SIDE + 1, (count,), generator=generator)
                columns = torch.randint(0, part.shape[2] - SIDE + 1, (count,), generator=generator)
                corners = zip(rows.tolist(), columns.tolist(), strict=True)
                sets["x" + suffix] += [part[:, r : r + SIDE, c : c + SIDE] for r, c in corners]
                sets["y" + suffix].append(torch.full((count,), place))
    x, x_test = ((torch.stack(sets[name]) - 0.45) / 0.27 for name in ("x", "x_test"))
    return x, torch.cat(sets["y"]), x_test, torch.cat(sets["y_test"])


@lru_cache(maxsize=1)
def text() -> tuple[Tensor, Tensor]:
    """Modern prose (Debian's `anarchism`, 143 HTML files) as bytes; every tenth file is held out whole."""
    train, held = CACHE / "text.train", CACHE / "text.test"
    if not (train.exists() and held.exists()):
        _extract_text(train, held)
    return _bytes(train), _bytes(held)


def _bytes(path: Path) -> Tensor:
    return torch.from_numpy(np.frombuffer(path.read_bytes(), np.uint8).copy()).long()


def _extract_text(train: Path, held: Path) -> None:
    """Downloads and unpacks the Debian package without installing it.

    Raises:
        RuntimeError: apt-get cannot get it; the message says what it said.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        got = subprocess.run(["apt-get", "download", "anarchism"], cwd=folder, capture_output=True, text=True)
        debs = list(Path(folder).glob("*.deb"))
        if not debs:
            raise RuntimeError(f"expected `apt-get download anarchism` to bring the text; got: {got.stderr[-300:]}")
        subprocess.run(["dpkg-deb", "-x", debs[0], folder], check=True)
        pages = sorted(Path(folder).rglob("*.html"))
        parts = [_prose(page) for page in pages]
    train.write_bytes(b"".join(part for i, part in enumerate(parts) if i % 10)[:4_000_000])
    held.write_bytes(b"".join(parts[::10])[:400_000])


def _prose(page: Path) -> bytes:
    content = re.sub(r"(?s)<(script|style).*?</\1>", "", page.read_text(encoding="utf-8", errors="replace"))
    plain = html.unescape(re.sub(r"<[^>]+>", "", content))
    return re.sub(r"[ \t]+", " ", re.sub(r"\n\s*\n+", "\n\n", plain)).encode("ascii", "ignore")
