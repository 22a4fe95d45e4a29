"""`dcao runs`: the runs of a project, or of all, with where they stand."""

import json
import time
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Column, Table

from dcao_client.cli.api import Api
from dcao_client.cli.options import Project, Url
from dcao_client.cli.output import CommandError, console
from dcao_client.settings import ClientSettings
from dcao_proto import Record, Run
from dcao_proto.run import RunStatus

LIMIT = 25
MOST_NAMED = 20  # projects
DEFAULT_PROJECT = ClientSettings.model_fields["project"].default
WIDE = 120  # columns from which on there is room for more than what every run is asked first


def runs(
    status: Annotated[RunStatus | None, typer.Option(help="Only runs in this state.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only runs with this label, as name=value.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Runs at most, the newest of them.")] = LIMIT,
    all_projects: Annotated[bool, typer.Option("--all-projects", help="Of every project that may be read.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: a run and its newest record an entry.")] = False,
    url: Url = None,
    project: Project = None,
) -> None:
    """Lists the runs of a project, newest first."""
    for text in label or ():
        if "=" not in text:
            raise CommandError(f"expected --label name=value, got {text!r}", code=2)
    api = Api(url, project)
    found = list(islice(_found(api, limit + 1, all_projects, status=status, label=label), limit + 1))
    shown = [(run, api.newest(run)) for run in found[:limit]]
    if not found:
        check_project(api, all_projects)
    if as_json:
        print(json.dumps([_as_json(run, record) for run, record in shown], ensure_ascii=False))
        return
    out = console()
    if not shown:
        out.print(_nothing(api, all_projects, narrowed=bool(status or label)), markup=False, highlight=False)
        return
    out.print(_table(shown, all_projects, wide=out.width >= WIDE))
    if len(found) > limit:
        out.print(f"the newest {limit}; --limit {10 * limit} shows more", highlight=False)


def _found(api: Api, most: int, everywhere: bool, **wanted: Any) -> Iterator[Run]:
    page = min(most, 1000)
    if not everywhere:
        return api.runs(page=page, **wanted)
    every = [run for project in api.projects() for run in islice(api.runs(project, page=page, **wanted), most)]
    return iter(sorted(every, key=lambda run: run.created_at, reverse=True))


def check_project(api: Api, everywhere: bool = False) -> None:
    """Raises CommandError where a project was named that has no run: most likely it is called otherwise."""
    if everywhere or api.project == DEFAULT_PROJECT or next(api.runs(page=1), None) is not None:
        return
    known = list(islice(api.projects(), MOST_NAMED + 1))
    there = ", ".join(known[:MOST_NAMED]) + (", …" if len(known) > MOST_NAMED else "")
    raise CommandError(f"expected a project with runs, got {api.project}, which has none; there are: {there or 'none'}")


def _nothing(api: Api, everywhere: bool, *, narrowed: bool) -> str:
    where = "in any project" if everywhere else f"in project {api.project}"
    if narrowed:
        return f"no such runs {where}; without --status and --label there may be others"
    return f"no runs {where} yet; a training with DCAO_URL={api.url} makes one"


def _as_json(run: Run, record: Record | None) -> dict[str, Any]:
    return {**run.wire(), "newest": None if record is None else record.wire()}


def _table(shown: list[tuple[Run, Record | None]], everywhere: bool, *, wide: bool) -> Table:
    """The name gives way where there is no room; what is asked of every run does not."""
    fixed: dict[str, Any] = {"no_wrap": True}
    numbers = {**fixed, "justify": "right"}
    table = Table(
        Column("run", overflow="fold", min_width=12), Column("status", **fixed), Column("step", **numbers),
        Column("edge ratio", justify="right"), Column("loss", **numbers), Column("lr", **numbers),
        Column("observed", **fixed), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for name in ("attempt", "decisions", "policy", "optimizer") if wide else ():
        table.add_column(name, **fixed)
    for run, record in shown:
        edge, loss, lr = (None, None, None) if record is None else _newest(record)
        more = (str(run.attempt), str(run.decisions), run.spec.policy.name, run.spec.optimizer) if wide else ()
        table.add_row(
            f"{run.project}/{run.run}" if everywhere else run.run, run.status, _shown(run.last_step, "d"),
            _shown(edge, ".2f"), _shown(loss, ".4g"), _shown(lr, ".3g"), ago(run.updated_at), *more,
        )  # fmt: skip
    return table


def _newest(record: Record) -> tuple[float | None, float | None, float]:
    return record.decision.edge_ratio, record.observation.loss, record.decision.lr


def _shown(value: float | None, how: str) -> str:
    return "–" if value is None else format(value, how)


def ago(timestamp: float) -> str:
    """How long since, in the largest unit that is not 0."""
    seconds = max(time.time() - timestamp, 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
