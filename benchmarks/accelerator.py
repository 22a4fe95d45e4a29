"""`DCAO(model, loss)` on an accelerator: a step's time and memory beside AdamW's, a probe's cost, a real training.

`python -m benchmarks.accelerator --out DIR` takes under five minutes on one GPU; `--toy` runs every line on a CPU in
seconds. Records are flushed as JSON lines after each part, so that a run that is cut short keeps what it has.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dcao_client import DCAO
from dcao_experiments.workloads.sources import fashion_whole

NOWHERE = "/dev/null/nowhere"
Batch = tuple[Tensor, Tensor]


class Block(nn.Module):
    """GPT-2's block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_a, self.norm_b = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        heads = self.qkv(self.norm_a(x)).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = (
            functional.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).reshape(n, length, width)
        )
        x = x + self.out(mixed)
        return x + self.down(functional.gelu(self.up(self.norm_b(x))))


class GPT(nn.Module):
    """GPT-2 Small's shape, 124 M parameters, head tied."""

    def __init__(self, width: int = 768, depth: int = 12, vocabulary: int = 50304, length: int = 1024) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(length, width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.blocks = nn.Sequential(*[Block(width, width // 64) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens(x) + self.positions.weight[: x.shape[1]]
        return functional.linear(self.norm(self.blocks(h)), self.tokens.weight)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy."""
    out = model(batch[0])
    return functional.cross_entropy(out.reshape(-1, out.shape[-1]).float(), batch[1].reshape(-1))


def networks(device: torch.device, toy: bool) -> Iterator[tuple[str, Callable[[], nn.Module], Batch]]:
    """Name, how to build, and one batch."""
    generator = torch.Generator().manual_seed(0)
    if toy:
        tokens = torch.randint(0, 256, (4, 33), generator=generator)
        yield "GPT, toy", lambda: GPT(64, 2, 256, 64), (tokens[:, :-1], tokens[:, 1:])
        return
    from torchvision.models import resnet50

    images = torch.randn(64, 3, 224, 224, generator=generator).to(device)
    yield "ResNet-50, 64×224²", resnet50, (images, torch.randint(0, 1000, (64,), generator=generator).to(device))
    tokens = torch.randint(0, 50304, (8, 1025), generator=generator).to(device)
    yield "GPT 124 M, 8×1024", GPT, (tokens[:, :-1], tokens[:, 1:])


def optimizers(model: nn.Module) -> dict[str, Callable[[], Any]]:
    """How to make each."""
    fused = next(model.parameters()).is_cuda
    makers: dict[str, Callable[[], Any]] = {
        "AdamW, fused": lambda: torch.optim.AdamW(model.parameters(), fused=fused),
        "AdamW, foreach": lambda: torch.optim.AdamW(model.parameters(), foreach=True),
        "DCAO": lambda: DCAO(model, loss, overhead=None, probe_interval=10**6, journal_dir=NOWHERE),
    }
    try:
        from schedulefree import AdamWScheduleFree
    except ImportError:
        print("schedulefree is not installed (pip install --no-deps schedulefree); its row is left out")
        return makers
    makers["schedule-free AdamW"] = lambda: _training(AdamWScheduleFree(model.parameters(), foreach=True))
    return makers


def _training(optimizer: Any) -> Any:
    optimizer.train()
    return optimizer


def step_times(device: torch.device, toy: bool, write: Callable[[dict[str, Any]], None]) -> None:
    """Median seconds of a whole training step under bf16 autocast, and peak memory; then what a probe costs."""
    for name, build, batch in networks(device, toy):
        for label in ("AdamW, fused", "AdamW, foreach", "schedule-free AdamW", "DCAO"):
            torch.manual_seed(0)
            model = build().to(device)
            maker = optimizers(model).get(label)
            if maker is None:
                continue
            optimizer = maker()
            _synchronise(device, reset=True)
            whole, alone = _time_steps(model, optimizer, batch, device, 5 if toy else 30)
            record = {"part": "step", "network": name, "optimizer": label, "seconds": whole, "optimizer_seconds": alone}
            write(record | {"peak_bytes": _peak(device)})
            if label == "DCAO":
                write({"part": "probe", "network": name, **_time_probe(model, optimizer, batch, device, toy)})
            del model, optimizer
            if device.type == "cuda":
                torch.cuda.empty_cache()


def _time_steps(
    model: nn.Module, optimizer: Any, batch: Batch, device: torch.device, steps: int
) -> tuple[float, float]:
    whole, alone = [], []
    ours = isinstance(optimizer, DCAO)
    for i in range(steps + 5):
        _synchronise(device)
        began = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            value = loss(model, batch)
        value.backward()  # type: ignore[no-untyped-call]
        _synchronise(device)
        middle = time.perf_counter()
        # Warmed up without a batch: nothing is measured in the timed steps, the probe is timed apart.
        optimizer.step(batch=batch) if ours and i == 0 else optimizer.step()
        _synchronise(device)
        ended = time.perf_counter()
        if i >= 5:
            whole.append(ended - began)
            alone.append(ended - middle)
    return statistics.median(whole), statistics.median(alone)


def _time_probe(model: nn.Module, optimizer: Any, batch: Batch, device: torch.device, toy: bool) -> dict[str, Any]:
    """A warm probe of three products on a quarter of the batch, in seconds and in gradients of the whole batch."""
    probe = optimizer.control.probe
    _synchronise(device, reset=True)
    seconds, gradients = [], []
    for _ in range(2 if toy else 5):
        _synchronise(device)
        began = time.perf_counter()
        spectrum = probe.sharpness(batch)
        _synchronise(device)
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16):
            value = loss(model, batch)
        torch.autograd.grad(value, [p for p in model.parameters() if p.requires_grad])
        _synchronise(device)
        gradients.append(time.perf_counter() - began)
    return {
        "seconds": statistics.median(seconds),
        "gradient_seconds": statistics.median(gradients),
        "gradients": statistics.median(seconds) / statistics.median(gradients),
        "matvecs": spectrum.matvecs,
        "examples": spectrum.examples,
        "status": spectrum.status,
        "detail": spectrum.detail,
        "peak_bytes": _peak(device),
    }


def resnet18(device: torch.device, toy: bool) -> nn.Module:
    """Batch-norm ResNet-18 with a stem for small grey images."""
    if toy:
        from dcao_experiments.models import small_cnn

        return small_cnn(28)
    from torchvision.models import resnet18 as build

    model = build(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(1, 64, 3, 1, 1, bias=False), nn.Identity()  # type: ignore[assignment]
    return model.to(device)


def trainings(device: torch.device, toy: bool, until: float, write: Callable[[dict[str, Any]], None]) -> None:
    """ResNet-18 on 60,000 real images: ours, and SGD with a cosine at four rates; every run on the same batches."""
    x, y, x_test, y_test = (t.to(device) for t in fashion_whole())
    epochs, size = (1, 64) if toy else (6, 256)
    if toy:
        x, y, x_test, y_test = x[:640], y[:640], x_test[:200], y_test[:200]
    total = epochs * (len(x) // size)
    plan: list[tuple[str, float, int]] = [("DCAO", 0.0, 0), ("SGD", 0.1, 0), ("SGD", 0.03, 0), ("SGD", 0.3, 0)]
    plan += [("SGD", 0.01, 0), ("DCAO", 0.0, 1), ("SGD", 0.1, 1), ("SGD", 0.03, 1), ("DCAO", 0.0, 2), ("SGD", 0.1, 2)]
    for kind, rate, seed in plan[: 2 if toy else None]:
        if time.time() > until:
            return
        began = time.perf_counter()
        looks = _train(kind, rate, seed, (x, y, x_test, y_test), total, size, device, toy)
        record = {"part": "training", "optimizer": kind, "rate": rate, "seed": seed, "steps": total, "looks": looks}
        write(record | {"final": looks[-1][1], "seconds": time.perf_counter() - began})


def _train(
    kind: str, rate: float, seed: int, data: tuple[Tensor, ...], total: int, size: int, device: torch.device, toy: bool
) -> list[tuple[int, float]]:
    x, y, x_test, y_test = data
    torch.manual_seed(seed)
    model = resnet18(device, toy)
    ours = kind == "DCAO"
    optimizer: Any = (
        DCAO(model, loss, journal_dir=NOWHERE)
        if ours
        else torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
    )
    schedule = None if ours else torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    generator = torch.Generator(device).manual_seed(seed)
    looks = []
    for step in range(total):
        chosen = torch.randint(0, len(x), (size,), generator=generator, device=device)
        batch = _augmented(x[chosen], generator), y[chosen]
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            value = loss(model, batch)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step(batch=batch) if ours else optimizer.step()
        if schedule is not None:
            schedule.step()
        if (step + 1) % max(total // 12, 1) == 0 or step + 1 == total:
            looks.append((step + 1, _accuracy(model, optimizer if ours else None, x_test, y_test)))
    if ours:
        optimizer.control.finish()
    return looks


def _augmented(x: Tensor, generator: torch.Generator) -> Tensor:
    """Flipped half the time, and shifted by up to two pixels, all alike: cheap, and the same for every method."""
    if torch.rand((), generator=generator, device=x.device) < 0.5:
        x = x.flip(3)
    dx, dy = torch.randint(-2, 3, (2,), generator=generator, device=x.device).tolist()
    return torch.roll(x, (dx, dy), (2, 3))


@torch.no_grad()
def _accuracy(model: nn.Module, optimizer: Any, x: Tensor, y: Tensor) -> float:
    if optimizer is not None:
        optimizer.eval()
    model.eval()
    right = sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(1000), y.split(1000), strict=True))
    model.train()
    if optimizer is not None:
        optimizer.train()
    return right / len(y)


def _synchronise(device: torch.device, *, reset: bool = False) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
        if reset:
            torch.cuda.reset_peak_memory_stats()


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else 0


def table(records: list[dict[str, Any]]) -> str:
    """Markdown of what was found."""
    lines = ["| network | optimizer | step, ms | its optimizer, ms | peak GiB |", "|---|---|---|---|---|"]
    gib = 2**30
    lines += [
        f"| {r['network']} | {r['optimizer']} | {1e3 * r['seconds']:.1f} | {1e3 * r['optimizer_seconds']:.2f} "
        f"| {r['peak_bytes'] / gib:.2f} |"
        for r in records
        if r["part"] == "step"
    ]
    lines += [
        f"\nProbe on {r['network']}: {r['status']}, {r['matvecs']} products on {r['examples']} examples, "
        f"{1e3 * r['seconds']:.0f} ms, {r['gradients']:.1f} gradients, peak {r['peak_bytes'] / gib:.2f} GiB."
        for r in records
        if r["part"] == "probe"
    ]
    lines += ["", "| training | rate | seed | accuracy | seconds |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['optimizer']} | {r['rate'] or '–'} | {r['seed']} | {r['final']:.4f} | {r['seconds']:.0f} |"
        for r in records
        if r["part"] == "training"
    ]
    return "\n".join(lines)


def main() -> None:
    """Both parts, as far as the time goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/accelerator"))
    parser.add_argument("--seconds", type=float, default=270.0, help="no new training is begun after so long")
    parser.add_argument("--toy", action="store_true", help="every line, at toy size, on the CPU")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() and not given.toy else "cpu")
    given.out.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    until = time.time() + given.seconds

    def write(record: dict[str, Any]) -> None:
        records.append(record)
        with (given.out / "accelerator.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        (given.out / "accelerator.md").write_text(table(records) + "\n")

    try:
        step_times(device, given.toy, write)
    except Exception as error:  # the trainings are worth having without it
        write({"part": "error", "what": f"{type(error).__name__}: {error}"[:500]})
    trainings(device, given.toy, until, write)
    print(table(records))


if __name__ == "__main__":
    main()
