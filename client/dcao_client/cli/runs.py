"""Commands that read runs: `runs`, `show`, `watch`, `export`."""

import sys
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from dcao_client.cli.api import Api
from dcao_client.cli.plots import Series, terminal_plots
from dcao_client.names import wire_name
from dcao_proto import Record, Run
from dcao_proto.paths import run_path
from dcao_proto.policy.reasons import REASONS

Url = Annotated[str | None, typer.Option("--url", help="Controller. [DCAO_URL, http://127.0.0.1:8000]")]
Project = Annotated[str | None, typer.Option("--project", help="Project. [DCAO_PROJECT, default]")]
console = Console()


def runs(
    status: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only runs with this label, as name=value.")] = None,
    url: Url = None,
    project: Project = None,
) -> None:
    """Lists the runs of a project, newest first."""
    table = Table(
        Column("run", no_wrap=True), "status", "attempt", "step", "decisions", "policy", "optimizer", "last observed"
    )
    for run in Api(url, project).runs(status=status, label=label):
        table.add_row(
            run.run, run.status, str(run.attempt), "–" if run.last_step is None else str(run.last_step),
            str(run.decisions), run.spec.policy.name, run.spec.optimizer, _ago(run.updated_at),
        )  # fmt: skip
    console.print(table)


def show(run: str, url: Url = None, project: Project = None) -> None:
    """Plots ρ, η and the edge ratio of a run, and says in words what its last decision did."""
    api = Api(url, project)
    info, records = api.run(run), list(api.history(run))
    console.print(_heading(info))
    console.print(*terminal_plots(_series(records)), sep="\n")
    if records:
        console.print(_in_words(records[-1]))


def watch(
    run: str,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 1.0,
    last: Annotated[int, typer.Option(min=2, help="Decisions to draw.")] = 200,
    url: Url = None,
    project: Project = None,
) -> None:
    """Follows a run live until it ends; Ctrl-C stops watching."""
    api = Api(url, project)
    records: deque[Record] = deque(maxlen=last)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            info = api.run(run)
            after = f"{records[-1].attempt}:{records[-1].step}" if records else None
            records.extend(api.history(run, after))
            plots = [Text.from_ansi(plot) for plot in terminal_plots(_series(records))]
            words = [_in_words(records[-1])] if records else []
            live.update(Group(_heading(info), *plots, *words), refresh=True)
            if info.status in ("finished", "failed"):
                return
            time.sleep(every)


def export(
    run: str,
    format: Annotated[Literal["csv", "ndjson", "json", "parquet"], typer.Option(help="Format.")] = "csv",  # noqa: A002  (the option's name)
    out: Annotated[Path | None, typer.Option(help="File; standard output if absent.")] = None,
    url: Url = None,
    project: Project = None,
) -> None:
    """Writes a run's whole history; floats are exact."""
    api = Api(url, project)
    path = f"{run_path(api.project, wire_name(run))}/decisions"
    api.run(run)  # a run that is not there is said before a file is made
    with api.http.stream("GET", path, params={"format": format}) as reply:
        reply.raise_for_status()
        if out is None:
            for part in reply.iter_bytes():
                sys.stdout.buffer.write(part)
            return
        partial = out.with_name(out.name + ".part")  # a half-written file never has the name
        with partial.open("wb") as file:
            for part in reply.iter_bytes():
                file.write(part)
        partial.replace(out)


def _heading(run: Run) -> str:
    return (
        f"[bold]{run.project}/{run.run}[/bold]  {run.status}, attempt {run.attempt}, {run.decisions} decisions, "
        f"policy {run.spec.policy.name}, last observed {_ago(run.updated_at)}"
    )


def _series(records: Iterable[Record]) -> dict[str, Series]:
    rho, lr, edge = Series(), Series(), Series()
    for record in records:
        step = float(record.step)
        lr.append((step, record.decision.lr))
        if record.observation.rho is not None:
            rho.append((step, record.observation.rho))
        if record.decision.edge_ratio is not None:
            edge.append((step, record.decision.edge_ratio))
    return {"sharpness ρ": rho, "learning rate η": lr, "edge ratio": edge}


def _in_words(record: Record) -> str:
    decision = record.decision
    lines = [
        f"step {record.step}: {decision.regime}; η {decision.lr:.4g} (×{decision.multipliers.lr:.3g}), "
        f"β {decision.momentum:.4g}, λ {decision.weight_decay:.3g}"
    ]
    lines += [f"  {reason}: {REASONS.get(reason, '')}" for reason in decision.reasons]
    return "\n".join(lines)


def _ago(timestamp: float) -> str:
    seconds = max(time.time() - timestamp, 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
