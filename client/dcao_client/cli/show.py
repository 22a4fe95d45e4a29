"""Commands that draw a run: `show`, and `watch` while it goes on."""

import time
from collections import deque
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from dcao_client.cli.api import Api
from dcao_client.cli.options import Project, Url
from dcao_client.cli.output import CommandError, console
from dcao_client.cli.plots import Series, terminal_plots
from dcao_client.cli.runs import ago
from dcao_proto import Decision, Record, Run
from dcao_proto.policy.reasons import ACTIONS, REGIMES
from dcao_proto.policy.registry import sentences
from dcao_proto.policy.why import why

NOTHING_YET = "no decisions yet: they come with the first dcao.step(batch), or Session.decide"


def show(run: str, url: Url = None, project: Project = None) -> None:
    """Plots ρ, η and the edge ratio of a run, and says in words what its last decision did."""
    api, out = Api(url, project), console()
    info, records = api.run(run), list(api.history(run))
    out.print(_heading(info))
    out.print(*terminal_plots(_series(records)), sep="\n")
    out.print(_in_words(living(records), _words(api, records)) if records else NOTHING_YET)


def watch(
    run: str,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 1.0,
    last: Annotated[int, typer.Option(min=2, help="Decisions to draw.")] = 200,
    url: Url = None,
    project: Project = None,
) -> None:
    """Follows a run live until it ends, over restarts of the controller; Ctrl-C stops watching."""
    api = Api(url, project)
    records: deque[Record] = deque(maxlen=last)
    table: dict[str, str] = {}
    info = api.run(run)
    with Live(console=console(), auto_refresh=False) as live:
        while True:
            away = ""
            try:
                info = api.run(run)
                after = f"{records[-1].attempt}:{records[-1].step}" if records else None
                records.extend(api.history(run, after))
            except CommandError as error:
                if not error.passing:
                    raise
                away = f"{error}; asked again every {every:g} s"
            plots = [Text.from_ansi(plot) for plot in terminal_plots(_series(records))]
            table = table or (_words(api, records) if records and not away else {})
            words = [_in_words(living(records), table)] if records else []
            # First of all: in a low terminal the end is cut off.
            trouble = [Text(away, "bold")] if away else []
            live.update(Group(_heading(info), *trouble, *plots, *words), refresh=True)
            if info.status in ("finished", "failed") and not away:
                return
            time.sleep(every)


def _heading(run: Run) -> str:
    earlier = f" (resumed, or its name used again: dcao export {run.run} has the earlier ones)" * (run.attempt > 1)
    return (
        f"[bold]{run.project}/{run.run}[/bold]  {run.status}, attempt {run.attempt}{earlier}, {run.decisions} "
        f"decisions, policy {run.spec.policy.name}, last observed {ago(run.updated_at)}"
    )


def living(records: Iterable[Record]) -> list[Record]:
    """Without what a later attempt, which went back, has decided anew: the lineage that the page draws too."""
    kept: list[Record] = []
    for record in records:
        while kept and kept[-1].step >= record.step:
            kept.pop()
        kept.append(record)
    return kept


def _series(records: Iterable[Record]) -> dict[str, Series]:
    rho, lr, edge = Series(), Series(), Series()
    for record in living(records):
        step = float(record.step)
        lr.append((step, record.decision.lr))
        if record.observation.rho is not None:
            rho.append((step, record.observation.rho))
        if record.decision.edge_ratio is not None:
            edge.append((step, record.decision.edge_ratio))
    return {"sharpness ρ": rho, "learning rate η": lr, "edge ratio": edge}


def _words(api: Api, records: Iterable[Record]) -> dict[str, str]:
    """The table of words; of a plug-in that is not installed here it is the controller that knows them."""
    table = sentences()
    if all(code in table for record in records for code in _codes(record.decision)):
        return table
    try:
        theirs = [policy.sentences or {} for policy in api.policies()]
    except CommandError:  # it may not be asked; a code stands for itself then
        return table
    return {**{code: words for sentences in theirs for code, words in sentences.items()}, **table}


def _codes(decision: Decision) -> list[str]:
    return [*decision.reasons, *(cause.code for cause in decision.causes or ())]


def _in_words(records: list[Record], table: dict[str, str]) -> Text:
    decision = records[-1].decision
    lines = [
        f"step {decision.step}: {decision.regime}; η {decision.lr:.4g} (×{decision.multipliers.lr:.3g}), "
        f"β {decision.momentum:.4g}, λ {decision.weight_decay:.3g}",
        f"  {REGIMES.get(decision.regime, '')}",
    ]
    if decision.action != "continue":
        lines.append(f"  {decision.action}: {ACTIONS[decision.action]}")
    lines += [f"  {sentence}" for sentence in why(decision, records[-2].decision if len(records) > 1 else None, table)]
    return Text("\n".join(lines))  # what a plug-in says is text, never markup
