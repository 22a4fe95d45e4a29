"""`dcao replay`: what another policy would have decided on a recorded run, beside what was decided."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from dcao_client.cli.api import Api
from dcao_client.cli.options import Project, Url
from dcao_client.cli.output import CommandError, console
from dcao_client.cli.plots import Series, terminal_plots
from dcao_client.names import wire_name
from dcao_proto import Decision, PolicyChoice, Record
from dcao_proto.paths import REPLAY

VALUES = (("lr", "learning rate η"), ("momentum", "momentum β"), ("weight_decay", "weight decay λ"))


def replay(
    run: str,
    policy: Annotated[str, typer.Option(help="The other policy; `dcao policies` lists them.")],
    param: Annotated[list[str] | None, typer.Option(help="Parameter, as name=value; may be repeated.")] = None,
    out: Annotated[Path | None, typer.Option(help="Draw both into this picture (PNG, SVG or PDF).")] = None,
    url: Url = None,
    project: Project = None,
) -> None:
    """Replays a recorded run under another policy. The curvature stays as it was measured: it says what the other law
    would have answered, not how training would have gone."""
    api = Api(url, project)
    choice = _choice(policy, _parse(param or []))
    info, records = api.run(run), list(api.history(run))
    if not records:
        raise CommandError(f"expected a run with decisions, got {info.project}/{info.run}, which has none yet")
    path = REPLAY.format(project=api.project, run=wire_name(run))
    reply = api.call("POST", path, content=choice.wire_json(), headers={"content-type": "application/json"})
    decisions = [Decision.model_validate_json(line) for line in reply.content.splitlines()]
    names = (info.spec.policy.name, policy)
    shown = console()
    shown.print(*terminal_plots(_plots(records, decisions, names)), sep="\n")
    shown.print(_summary(records, decisions, names))
    if out is not None:
        try:
            _draw(records, decisions, names, out.expanduser())
        except (OSError, ValueError) as error:  # a place, or a kind of picture, that there is not
            raise CommandError(f"expected to draw {out}, got {error}; give --out another name") from None
        shown.print(f"picture in {out}", markup=False)


def _choice(name: str, params: dict[str, Any]) -> PolicyChoice:
    try:
        return PolicyChoice(name=name, params=params)
    except ValidationError:
        raise CommandError(f"expected the name of a policy, got {name!r}; see: dcao policies", code=2) from None


def _parse(params: list[str]) -> dict[str, Any]:
    parsed = {}
    for item in params:
        name, equals, value = item.partition("=")
        if not equals:
            raise CommandError(f"expected --param name=value, got {item!r}", code=2)
        try:
            parsed[name] = json.loads(value)
        except json.JSONDecodeError:
            parsed[name] = value
    return parsed


def _plots(records: list[Record], decisions: list[Decision], names: tuple[str, str]) -> dict[str, Series]:
    was = [(float(r.step), r.decision.lr) for r in records]
    would = [(float(d.step), d.lr) for d in decisions]
    return {f"η, {names[0]} (as recorded)": was, f"η, {names[1]} (replayed)": would}


def _summary(records: list[Record], decisions: list[Decision], names: tuple[str, str]) -> Table:
    table = Table("mean multiplier", f"{names[0]}, recorded", f"{names[1]}, replayed")
    for field, title in VALUES:
        means = [
            sum(getattr(d.multipliers, field) for d in side) / max(len(side), 1)
            for side in ([r.decision for r in records], decisions)
        ]
        table.add_row(title, *(f"×{mean:.3f}" for mean in means))
    changed = sum(r.decision.multipliers != d.multipliers for r, d in zip(records, decisions, strict=False))
    table.caption = f"{changed} of {len(records)} decisions differ"
    return table


def _draw(records: list[Record], decisions: list[Decision], names: tuple[str, str], out: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CommandError("a picture needs matplotlib; pip install 'dcao[demo]'") from error
    figure = Figure(figsize=(9, 9), layout="constrained")
    axes = figure.subplots(len(VALUES) + 1, sharex=True)
    seen = [(r.step, r.observation.rho) for r in records if r.observation.rho is not None]
    axes[0].semilogy([step for step, _ in seen], [max(rho, 1e-12) for _, rho in seen], color="#009E73")
    axes[0].set_ylabel("sharpness ρ")
    for axis, (field, title) in zip(axes[1:], VALUES, strict=True):
        axis.step(
            [r.step for r in records], [getattr(r.decision, field) for r in records],
            where="post", color="#999999", label=f"{names[0]}, as recorded",
        )  # fmt: skip
        axis.step(
            [d.step for d in decisions], [getattr(d, field) for d in decisions],
            where="post", color="#0072B2", label=f"{names[1]}, replayed",
        )  # fmt: skip
        axis.set_ylabel(title)
    axes[1].legend()
    axes[-1].set_xlabel("optimizer step")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out)
