"""`dcao experiment`: trains grids of methods on workloads, and says what was found."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from dcao_client.cli.output import CommandError

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
OUT = Path("out/experiments")
SuiteName = Annotated[str, typer.Option(help="Which grid; `dcao experiment list` shows them.")]
Out = Annotated[Path, typer.Option(help="Where the records and reports are.")]


@app.command("list")
def show() -> None:
    """Names suites, workloads and methods, with what each is."""
    from dcao_experiments.methods import METHODS
    from dcao_experiments.suites import SUITES
    from dcao_experiments.workloads.small import WORKLOADS

    typer.echo("Suites")
    for suite in SUITES.values():
        typer.echo(f"  {suite.name:22} {suite.about}")
    typer.echo("\nWorkloads")
    for workload in WORKLOADS.values():
        metric = "loss" if workload.lower_is_better else "accuracy"
        said = f"batch {workload.batch}, {workload.steps} steps, {metric}"
        typer.echo(f"  {workload.name:22} {said}{', trained only if named' if workload.named or workload.slow else ''}")
    typer.echo("\nMethods")
    for method in METHODS.values():
        missing = "" if method.installed() else f" (not installed: pip install --no-deps {method.package})"
        typer.echo(f"  {method.name:22} {method.about}{', best of five rates' if method.tuned else ''}{missing}")


@app.command()
def run(
    suite: SuiteName = "smoke",
    seeds: Annotated[str, typer.Option(help="Comma-separated; 0–2 are for tuning, 10–12 for reporting.")] = "10,11,12",
    workloads: Annotated[str, typer.Option(help="Comma-separated; those not marked in the list if empty.")] = "",
    methods: Annotated[str, typer.Option(help="Comma-separated; all of the suite if empty.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Processes of one core each.")] = os.cpu_count() or 1,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so long; the same command goes on.")] = None,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster, or `local`, instead of processes.")] = None,
    out: Out = OUT,
) -> None:
    """Trains what is not recorded yet, and goes on where it was stopped or killed."""
    from dcao_experiments.grid import run_all
    from dcao_experiments.methods import METHODS
    from dcao_experiments.suites import SUITES
    from dcao_experiments.workloads.small import WORKLOADS

    names = _known("workload", workloads, WORKLOADS) or [w.name for w in WORKLOADS.values() if not (w.named or w.slow)]
    only = _known("method", methods, METHODS)
    chosen = SUITES[_known("suite", suite, SUITES)[0]].runs(names, _numbers(seeds))
    runs = [r for r in chosen if not only or r.method in only]
    until = time.time() + 60 * minutes if minutes is not None else float("inf")
    try:
        run_all(runs, out.expanduser() / f"{suite}.jsonl", jobs, until=until, ray=ray)
    except ModuleNotFoundError as error:
        raise CommandError(f"--ray needs {error.name}: pip install 'dcao[ray]'") from error
    except (OSError, ConnectionError, RuntimeError) as error:  # no data, no place for the records, no cluster
        raise CommandError(str(error)) from error


@app.command()
def report(
    suite: SuiteName = "smoke",
    seeds: Annotated[str, typer.Option(help="Comma-separated; those of the records if empty.")] = "",
    out: Out = OUT,
) -> None:
    """Writes SUITE.html and SUITE.md with what was found, good or bad."""
    from dcao_experiments.grid import read
    from dcao_experiments.report.document import as_html, as_markdown
    from dcao_experiments.report.document import report as parts_of
    from dcao_experiments.suites import SUITES

    chosen = SUITES[_known("suite", suite, SUITES)[0]]
    folder = out.expanduser()
    kept = set(_numbers(seeds)) if seeds else None
    records, beside = (
        [r for r in read(folder / f"{name}.jsonl") if kept is None or r["seed"] in kept] for name in (suite, "law")
    )
    if not records:
        raise CommandError(
            f"expected records in {folder / f'{suite}.jsonl'}, found none; "
            f"`dcao experiment run --suite {suite}` makes them"
        )
    parts = parts_of(chosen, records, beside)
    pictures = {}
    try:
        for number, part in enumerate(parts):
            if part.picture:
                name = f"{suite}-{number}.svg"
                (folder / name).write_text(part.picture, encoding="utf-8")
                pictures[part.title] = name
        (folder / f"{suite}.md").write_text(as_markdown(parts, pictures), encoding="utf-8")
        (folder / f"{suite}.html").write_text(as_html(parts), encoding="utf-8")
    except OSError as error:
        raise CommandError(str(error)) from error
    typer.echo(f"{folder / f'{suite}.html'} and {suite}.md: {len(records)} records")


@app.command()
def theory(
    longest: Annotated[int, typer.Option(min=316, help="Longest run, T; 10⁵ takes minutes.")] = 10_000,
) -> None:
    """Checks the proposal's propositions on small problems, and the path rate's regret, and prints a table."""
    from dcao_experiments.theory.checks import report as checked

    typer.echo(checked(longest))


def _known(what: str, given: str, there: object) -> list[str]:
    """The names in a comma-separated list.

    Raises:
        CommandError: one of them is not there.
    """
    names = [name.strip() for name in given.split(",") if name.strip()]
    known = list(there)  # type: ignore[call-overload]
    unknown = [name for name in names if name not in known]
    if unknown or (what == "suite" and len(names) != 1):
        raise CommandError(f"expected {what}s of {', '.join(known)}; got {given!r}")
    return names


def _numbers(given: str) -> list[int]:
    try:
        return [int(seed) for seed in given.split(",")]
    except ValueError:
        raise CommandError(
            f"expected seeds as numbers with commas between them, like 10,11,12; got {given!r}"
        ) from None
