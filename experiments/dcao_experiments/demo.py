"""`dcao demo`: a controller, a small CNN on real images under it, the same run without it, and a picture of both."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dcao_client import attach
from dcao_client.cli.plots import terminal_plots
from dcao_client.spectrum import ProbeSettings
from dcao_experiments.controller_process import running_controller
from dcao_experiments.data import FASHION_MNIST_DIR, Images, load_digits, load_fashion_mnist
from dcao_experiments.models import small_cnn
from dcao_experiments.training import StepReport, accuracy, batches, cross_entropy, train

LR, MOMENTUM, WEIGHT_DECAY, BATCH = 0.1, 0.9, 5e-4, 128


@dataclass
class Trace:
    """What one of the two runs did."""

    losses: list[float] = field(default_factory=list)
    applied: list[tuple[float, float, float]] = field(default_factory=list)  # η, β, λ of every step
    probes: list[tuple[int, float, float, float | None]] = field(default_factory=list)  # step, ρ, γ, edge ratio
    accuracy: float = 0.0
    seconds: float = 0.0


def demo(
    data: Annotated[Literal["digits", "fashion-mnist"], typer.Option(help="Which images.")] = "digits",
    data_dir: Annotated[Path, typer.Option(help="Where Fashion-MNIST's IDX files are.")] = FASHION_MNIST_DIR,
    steps: Annotated[int, typer.Option(min=20, help="Optimizer steps of each run.")] = 600,
    policy: Annotated[str, typer.Option(help="Policy of the controlled run.")] = "default",
    probe_interval: Annotated[int, typer.Option(min=1, help="Steps between probes.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches, the same for both runs.")] = 0,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("out/demo.png"),
) -> None:
    """Trains a small CNN on real images with the probe and a controller in the loop, and draws what happened."""
    console = Console()
    images = load_digits() if data == "digits" else load_fashion_mnist(data_dir)
    with tempfile.TemporaryDirectory() as folder, running_controller(Path(folder)) as url:
        console.print(f"controller at {url}  (the run is live on that page)")
        with Live(console=console, refresh_per_second=8) as live:
            show = _display(live, steps)
            controlled = _run(images, steps, seed, show, url=url, policy=policy, probe_interval=probe_interval)
            plain = _run(images, steps, seed, show)
    console.print(*terminal_plots(_series(controlled)), sep="\n")
    for name, trace in (("with DCAO", controlled), ("without", plain)):
        console.print(f"{name:10} test accuracy {trace.accuracy:.3f}  {trace.seconds:.1f} s")
    from dcao_experiments.picture import draw  # matplotlib takes a second to import

    draw(controlled, plain, out, title=f"{data}, policy {policy}")
    console.print(f"picture in {out}")


def _run(
    images: Images,
    steps: int,
    seed: int,
    show: Callable[[Trace, StepReport], None],
    *,
    url: str | None = None,
    policy: str = "default",
    probe_interval: int = 10,
) -> Trace:
    torch.manual_seed(seed)
    model = small_cnn(images.x.shape[-1])
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    dcao = None
    if url is not None:
        dcao = attach(
            model, optimizer, cross_entropy, url=url, run="demo", policy=policy, probe_interval=probe_interval,
            overhead=None, probe=ProbeSettings(probe_batch=BATCH // 4),
        )  # fmt: skip
    trace = Trace()
    started = time.perf_counter()
    for report in train(model, optimizer, batches(images, BATCH, steps, seed), dcao=dcao):
        values = report.applied
        trace.losses.append(report.loss)
        trace.applied.append(
            (LR, MOMENTUM, WEIGHT_DECAY) if values is None else (values.lr, values.momentum, values.weight_decay)
        )
        spectrum, decision = (dcao.spectrum, dcao.decision) if dcao is not None and report.probed else (None, None)
        if spectrum is not None and decision is not None and spectrum.rho is not None and spectrum.gamma is not None:
            trace.probes.append((report.step, spectrum.rho, spectrum.gamma, decision.edge_ratio))
        show(trace, report)
    trace.seconds = time.perf_counter() - started
    trace.accuracy = accuracy(model, images.x_test, images.y_test)
    if dcao is not None:
        dcao.finish()
    return trace


def _display(live: Live, steps: int) -> Callable[[Trace, StepReport], None]:
    progress = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    tasks = {name: progress.add_task(name, total=steps) for name in ("with DCAO", "without")}
    table = Table()

    def show(trace: Trace, report: StepReport) -> None:
        nonlocal table
        progress.update(tasks["without" if report.applied is None else "with DCAO"], completed=report.step + 1)
        if report.applied is not None and trace.probes:
            table = _table(trace, report)
        live.update(Group(table, progress))

    return show


def _table(trace: Trace, report: StepReport) -> Table:
    _, rho, gamma, edge = trace.probes[-1]
    lr, momentum, weight_decay = trace.applied[-1]
    table = Table("step", "loss", "sharpness ρ", "gap γ", "edge ratio", "η", "β", "λ")
    table.add_row(
        str(report.step), f"{report.loss:.4f}", f"{rho:.3g}", f"{gamma:.3g}",
        "–" if edge is None else f"{edge:.2f}", f"{lr:.4g}", f"{momentum:.3f}", f"{weight_decay:.2e}",
    )  # fmt: skip
    return table


def _series(trace: Trace) -> dict[str, list[tuple[float, float]]]:
    return {
        "loss": [(float(i), value) for i, value in enumerate(trace.losses)],
        "sharpness ρ": [(float(step), rho) for step, rho, _, _ in trace.probes],
        "edge ratio": [(float(step), edge) for step, _, _, edge in trace.probes if edge is not None],
        "learning rate η": [(float(i), lr) for i, (lr, _, _) in enumerate(trace.applied)],
    }
