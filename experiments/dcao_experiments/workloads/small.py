"""What is trained: network, data, batch, length. The metric is test accuracy, or the loss of language networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dcao_experiments.workloads import minilm, networks, sources

LENGTH = 64  # bytes of a sequence
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Workload:
    """One training.

    Attributes:
        lower_is_better: the metric is a loss.
        sgd, adamw: centres of the rate grids, from seeds 0–2; five rates, a factor of two apart, lie around them. None:
            not used there.
        named: named in advance, and not trained with our method before the law was frozen.
        slow: more than a minute a run; left out unless it is asked for by name, as those named in advance are.
        revision: raised when network or data change, so that records of before are not mixed with those of now.
    """

    name: str
    build: Callable[[], nn.Module]
    source: Callable[[], Any]
    batch: int
    steps: int
    adamw: float
    sgd: float | None = None
    lower_is_better: bool = False
    named: bool = False
    slow: bool = False
    revision: int = 1

    def sample(self, seed: int, step: int, size: int, noise: float = 0.0) -> Batch:
        """The batch of a step: the same for every method. `noise`: share of labels drawn anew."""
        generator = torch.Generator().manual_seed(seed * 100_003 + step)
        if self.lower_is_better:
            train, _ = self.source()
            starts = torch.randint(0, len(train) - LENGTH - 1, (size,), generator=generator)
            return _window(train, starts)
        x, y, *_ = self.source()
        chosen = torch.randint(0, len(x), (size,), generator=generator)
        labels = y[chosen]
        if noise:
            wrong = torch.rand(size, generator=generator) < noise
            labels = torch.where(wrong, torch.randint(0, int(y.max()) + 1, (size,), generator=generator), labels)
        return x[chosen], labels

    @torch.no_grad()
    def judge(self, model: nn.Module) -> float:
        """The metric, in eval mode; the mode is put back."""
        was = model.training
        model.eval()
        if self.lower_is_better:
            _, held = self.source()
            found = float(loss(model, _window(held, torch.arange(96) * 4001 % (len(held) - LENGTH - 1))))
        else:
            *_, x, y = self.source()
            right = sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(1000), y.split(1000), strict=True))
            found = right / len(y)
        model.train(was)
        return found


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy, over positions too."""
    out = model(batch[0])
    return functional.cross_entropy(out.reshape(-1, out.shape[-1]), batch[1].reshape(-1))


def _window(tokens: Tensor, starts: Tensor) -> Batch:
    found = tokens[starts[:, None] + torch.arange(LENGTH + 1)]
    return found[:, :-1], found[:, 1:]


def _lm(post: bool) -> Callable[[], nn.Module]:
    return lambda: networks.Transformer(width=64, heads=4, depth=3, length=LENGTH, post=post, text=True)


def _vit() -> nn.Module:
    return networks.Transformer(width=48, heads=3, depth=3, length=16, post=False, text=False)


WORKLOADS = {
    w.name: w
    for w in (
        Workload("mlp", networks.deep_mlp, sources.fashion, 128, 600, adamw=0.0024, sgd=0.024),
        Workload("mlp-128", lambda: networks.plain_mlp(784, 6, 128), sources.fashion, 128, 800, adamw=0.003, sgd=0.1),
        Workload("digits", networks.plain_mlp, sources.digits, 64, 400, adamw=0.006, sgd=0.1),
        Workload("cnn", lambda: networks.plain_cnn(he=False), sources.fashion, 64, 600, adamw=0.0048, sgd=0.048),
        Workload("cnn-he", lambda: networks.plain_cnn(he=True), sources.fashion, 64, 600, adamw=0.0048, sgd=0.048),
        Workload("vit", _vit, sources.fashion, 32, 600, adamw=0.0024),
        Workload("resnet", networks.resnet, sources.patches, 64, 300, adamw=0.002, sgd=0.0125, revision=2),
        Workload("post-lm", _lm(True), sources.text, 32, 500, adamw=0.0048, lower_is_better=True),
        Workload("pre-lm", _lm(False), sources.text, 32, 500, adamw=0.0034, lower_is_better=True),
        Workload("lstm", networks.ByteLSTM, sources.text, 32, 400, adamw=0.012, lower_is_better=True, named=True),
        Workload("minilm", minilm.minilm, minilm.news, 16, 60, adamw=4e-4, slow=True, revision=2),
        Workload("mixer", networks.Mixer, sources.patches, 64, 400, adamw=0.0048, named=True, revision=2),
    )
}
