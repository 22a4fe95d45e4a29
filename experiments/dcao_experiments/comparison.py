"""What `dcao demo` runs: a training without a rate beside tuned and wrong ones, and a spike survived."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from dcao_experiments.contest import Contestant, Trace, run
from dcao_experiments.controller_process import running_controller
from dcao_experiments.data import Images, load_digits, load_fashion_mnist

TUNED = {"fashion-mnist": 0.008, "digits": 0.008}
OFF = 8.0  # what the wrong rates are wrong by


def contestants(lr: float) -> list[Contestant]:
    """Every training of the demo, around a tuned rate."""
    return [
        Contestant("DCAO(model, loss)", None),
        Contestant("tuned", lr),
        Contestant("tuned × 8", lr * OFF),
        Contestant("tuned ÷ 8", lr / OFF),
        Contestant("tuned, auto", lr, "auto"),
        Contestant("tuned × 8, auto", lr * OFF, "auto"),
        Contestant("tuned ÷ 8, auto", lr / OFF, "auto"),
        Contestant("spike", lr, spike=True),
        Contestant("spike, guard", lr, "guard", spike=True),
    ]


def compare(data: str, data_dir: Path, steps: int, seed: int, out: Path) -> None:
    """Every training in turn under one controller, then a table and a picture."""
    console = Console()
    torch.set_num_threads(1)  # the network is small, and the controller wants a core
    name, images = _images(data, data_dir)
    traces: dict[str, Trace] = {}
    every = contestants(TUNED[name])
    with tempfile.TemporaryDirectory() as folder, running_controller(Path(folder)) as url:
        console.print(f"{name}: {len(images.x)} images; controller at {url} (the runs are live on that page)")
        with _progress(console) as progress:
            tasks = {one.name: progress.add_task(one.name, total=steps, accuracy="", start=False) for one in every}
            for one in every:
                progress.start_task(tasks[one.name])
                traces[one.name] = run(one, images, steps, seed, url, _shower(progress, tasks[one.name]))
    console.print(_table(every, traces))
    from dcao_experiments.picture import draw  # matplotlib takes a second to import

    draw(traces, out, data=name)
    console.print(f"picture in {out}")


def _images(data: str, directory: Path) -> tuple[str, Images]:
    if data == "auto":
        data = "fashion-mnist" if directory.exists() else "digits"
    return data, load_digits() if data == "digits" else load_fashion_mnist(directory)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:20}"),
        BarColumn(),
        TextColumn("{task.fields[accuracy]:>6}"),
        TimeElapsedColumn(),
        console=console,
    )


def _shower(progress: Progress, task: TaskID) -> Callable[[Trace], None]:
    def show(trace: Trace) -> None:
        progress.update(task, completed=len(trace.losses), accuracy=f"{trace.looks[-1][1]:.3f}")

    return show


def _table(every: list[Contestant], traces: dict[str, Trace]) -> Table:
    table = Table("training", "peak rate set", "trust", "test accuracy", "seconds", "of that probes")
    for one in every:
        trace = traces[one.name]
        table.add_row(
            one.name.removesuffix(f", {one.trust}"),
            "none" if one.lr is None else f"{one.lr:g}" + (" and 16 × that for a while" if one.spike else ""),
            one.trust or "",
            f"{trace.accuracy:.3f}",
            f"{trace.seconds:.1f}",
            f"{trace.overhead:.1%}" if trace.probing else "",
        )
    return table
