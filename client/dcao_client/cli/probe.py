"""`dcao probe`: the curvature of a model, its data and its loss, from the command line."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dcao_client.cli.output import CommandError
from dcao_client.spectrum.settings import MatvecKind
from dcao_proto.optimizers import OptimizerName, stability_threshold

if TYPE_CHECKING:
    from dcao_client.spectrum import Report


def probe(
    model: Annotated[str, typer.Option(help="module:callable that builds the model (or is it)")],
    loss: Annotated[str, typer.Option(help="module:callable(model, batch), the mean loss over the batch")],
    batch: Annotated[str, typer.Option(help="module:callable that returns a batch (or is one)")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="weights to load: a state dict, or a file that holds one", exists=True, dir_okay=False),
    ] = None,
    lr: Annotated[float | None, typer.Option(help="learning rate to judge the sharpness by")] = None,
    momentum: Annotated[float, typer.Option(help="momentum, or Adam's first beta")] = 0.0,
    optimizer: Annotated[OptimizerName, typer.Option(help="decides where the edge is")] = "sgd",
    evaluate: Annotated[bool, typer.Option("--eval", help="measure in eval mode; train mode otherwise")] = False,
    trace: Annotated[int, typer.Option(help="random vectors for the trace; 0 leaves it out")] = 0,
    density: Annotated[Path | None, typer.Option(help="write a picture of the spectral density here")] = None,
    matvec: Annotated[Literal["auto", MatvecKind], typer.Option(help="kind of curvature product")] = "auto",
    max_matvecs: Annotated[int, typer.Option(help="most products of one measurement")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Measure sharpness, gap and stability of a model at a checkpoint."""
    from dcao_client.spectrum import ProbeSettings, report

    try:
        settings = ProbeSettings(matvec=matvec, max_matvecs=max_matvecs)
    except ValueError as error:
        raise CommandError(str(error), code=2) from None
    sys.path.insert(0, str(Path.cwd()))
    network = _network(model, checkpoint)
    network.train(not evaluate)
    found = report(
        network,
        _loss(loss),
        _made(batch, "--batch"),
        lr=lr,
        threshold=stability_threshold(optimizer, momentum),
        settings=settings,
        traces=trace,
        with_density=density is not None,
    )
    if density is not None:
        _draw(found, density)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        _print(found, density)


def _network(target: str, checkpoint: Path | None) -> Any:
    """The model, with the weights of a checkpoint if there is one."""
    network = _made(target, "--model")
    if not callable(getattr(network, "named_parameters", None)):
        raise typer.BadParameter(f"expected a torch module from {target!r}, got {type(network).__name__}")
    if checkpoint is not None:
        from dcao_client.spectrum.torch.checkpoint import read_weights

        try:
            network.load_state_dict(read_weights(checkpoint))
        except UnpicklingError:  # torch's own words advise to run what is in there
            raise CommandError(f"expected a file of tensors only, got something else in {checkpoint}") from None
        except Exception as error:
            got = " ".join(str(error).split())[:300]
            raise CommandError(f"expected weights of {target} in {checkpoint}, got {got or error!r}") from error
    return network


def _loss(target: str) -> Any:
    from dcao_client.hooks.given import check_loss

    loss = _named(target, "--loss")
    try:
        check_loss(loss)
    except TypeError as error:
        raise typer.BadParameter(str(error), param_hint="--loss") from None
    return loss


def _draw(found: Report, picture: Path) -> None:
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        found.plot(picture)
    except (OSError, ValueError) as error:  # a place, or a kind of picture, that there is not
        raise CommandError(f"expected to draw {picture}, got {error}; give --density another name") from None


def _named(target: str, option: str) -> Any:
    module, _, name = target.partition(":")
    if not module or not name:
        raise typer.BadParameter(f"expected module:name, e.g. train:build; got {target!r}", param_hint=option)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise typer.BadParameter(f"could not find {target!r}: {error}", param_hint=option) from error


def _made(target: str, option: str) -> Any:
    """The named object; called when it is a function or a class (a module or a batch may be named directly)."""
    found = _named(target, option)
    return found() if isinstance(found, type) or (callable(found) and not hasattr(found, "state_dict")) else found


def _print(found: Report, picture: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    s = found.spectrum
    table = Table(
        title=f"{found.parameters:,} parameters, {s.examples} examples, {s.matvecs} products, {s.seconds:.2f} s"
    )
    table.add_column("quantity")
    table.add_column("value", justify="right")
    table.add_column("bound", justify="right")
    rows = [
        ("status", s.status + (f" ({s.outcome})" if s.outcome else ""), ""),
        ("loss", _shown(s.loss), ""),
        ("gradient norm", _shown(s.grad_norm), ""),
        ("ρ (sharpness)", _shown(s.rho), _shown(s.rho_bound)),
        ("γ (gap)", _shown(s.gamma), _shown(s.gamma_bound)),
        ("λ min", _shown(s.lambda_min), _shown(s.lambda_min_bound)),
        ("batch sharpness", _shown(s.batch_sharpness), ""),
    ]
    if found.edge_ratio is not None:
        rows.append(("edge ratio", _shown(found.edge_ratio), "1 is the edge"))
    if found.trace is not None:
        rows.append(("trace", _shown(found.trace.value), _shown(found.trace.error)))
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    if s.detail:
        console.print(s.detail)
    if found.shares:
        layers = Table(title="share of the sharpest direction")
        layers.add_column("parameter")
        layers.add_column("share", justify="right")
        for name, share in list(found.shares.items())[:10]:
            layers.add_row(name, f"{share:.1%}")
        console.print(layers)
    if picture is not None:
        console.print(f"density: {picture}")


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.5g}"
