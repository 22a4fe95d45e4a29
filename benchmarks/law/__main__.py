"""`python -m benchmarks.law run SUITE` trains, `python -m benchmarks.law table SUITE` prints what was found.

Suites: final (ours, cosines over five rates, peers, ablations), muon (the Muon form beside torch's Muon), trust (base
rates off by up to 64 times), extremes (batches, lengths, averaging, wrong labels), momenta, finetune (a pretrained
network, short and long). Each resumes where its file ends; run it in the background. Peers:
`pip install --no-deps schedulefree prodigyopt prodigy-plus-schedule-free dog-optimizer`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from benchmarks.law import ratio, suites, table
from benchmarks.law.methods import METHODS
from benchmarks.law.runner import Run, read, run_all
from benchmarks.law.workloads import WORKLOADS

from dcao_client.hooks.forms import FormName

app = typer.Typer(help=__doc__, no_args_is_help=True)
OUT = Path("out/law")
TABLES = {
    "final": table.final_table, "muon": table.final_table, "trust": table.rate_table,
    "extremes": table.plain_table, "momenta": table.plain_table, "finetune": table.plain_table,
}  # fmt: skip


def chosen(suite: str, workloads: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """The runs of a suite.

    Raises:
        typer.BadParameter: there is no such suite or workload.
    """
    unknown = set(workloads) - set(WORKLOADS)
    if suite not in TABLES or unknown:
        raise typer.BadParameter(f"expected a suite of {list(TABLES)} and workloads of {list(WORKLOADS)}")
    if suite == "final":
        return list(suites.final(workloads, seeds))
    if suite in ("muon", "trust"):
        return list(getattr(suites, suite)(workloads, seeds))
    if suite == "finetune":
        return list(suites.finetune(seeds))
    runs = suites.extremes(seeds) if suite == "extremes" else suites.momenta(seeds)
    return [run for run in runs if run.workload in workloads]


@app.command()
def run(
    suite: str,
    seeds: Annotated[str, typer.Option(help="Comma-separated; 0–2 are for tuning, 10–12 for reporting.")] = "10,11,12",
    workloads: Annotated[str, typer.Option(help="Comma-separated; mixer, lstm and minilm only if named.")] = "",
    methods: Annotated[str, typer.Option(help="Comma-separated; all if empty.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    seconds: Annotated[float, typer.Option(help="Stop after so long.")] = math.inf,
    out: Path = OUT,
) -> None:
    """Trains what is not recorded yet."""
    names = workloads.split(",") if workloads else [w.name for w in WORKLOADS.values() if not (w.named or w.slow)]
    if methods and (unknown := set(methods.split(",")) - set(METHODS)):
        raise typer.BadParameter(f"expected methods of {list(METHODS)}, got {sorted(unknown)}")
    wanted = list(chosen(suite, names, [int(s) for s in seeds.split(",")]))
    if methods:
        wanted = [r for r in wanted if r.method in methods.split(",")]
    run_all(wanted, out / f"{suite}.jsonl", jobs, time.time() + seconds)


@app.command("ratio")
def show_ratio(workloads: str = "mlp,cnn-he,vit,post-lm", seed: int = 0, form: str = "adam") -> None:
    """The ratio η√G/r at constant rates, with the metric in brackets."""
    if form not in get_args(FormName):
        raise typer.BadParameter(f"expected a form of {get_args(FormName)}, got {form}")
    typer.echo(ratio.table(workloads.split(","), seed, cast(FormName, form)))


@app.command("table")
def show(suite: str, out: Path = OUT, seeds: str = "10,11,12") -> None:
    """Prints a suite's table as Markdown."""
    if suite not in TABLES:
        raise typer.BadParameter(f"expected a suite of {list(TABLES)}, got {suite}")
    kept = {int(s) for s in seeds.split(",")}
    records = [r for r in read(out / f"{suite}.jsonl") if r["seed"] in kept]
    failed = {(r["workload"], r["method"], r["error"]) for r in records if "error" in r}
    if suite == "trust":
        tuned = [r for r in read(out / "final.jsonl") if r["seed"] in kept]
        typer.echo(table.rate_table(records, tuned))
    else:
        typer.echo(TABLES[suite](records))
    for workload, method, error in sorted(failed):
        typer.echo(f"\nfailed: {workload} {method}: {error}")


if __name__ == "__main__":
    app()
