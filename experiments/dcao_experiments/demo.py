"""`dcao demo`, as it is listed: what it runs, torch above all, is imported when it is called."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dcao_client.cli.output import CommandError

FASHION_MNIST_DIR = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts it


def demo(
    data: Annotated[
        Literal["auto", "digits", "fashion-mnist"],
        typer.Option(help="Which images; auto: Fashion-MNIST where its files are, else scikit-learn's digits."),
    ] = "auto",
    data_dir: Annotated[Path, typer.Option(help="Where Fashion-MNIST's IDX files are.")] = FASHION_MNIST_DIR,
    steps: Annotated[int, typer.Option(min=20, help="Optimizer steps of each training.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches, the same for all.")] = 0,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("out/demo.png"),
) -> None:
    """Trains a small vision transformer nine times: with rates that are right, wrong, spoilt, and with none at all."""
    from dcao_experiments.comparison import compare

    try:
        compare(data, data_dir, steps, seed, out.expanduser())
    except OSError as error:  # no images, no place for the picture
        raise CommandError(str(error)) from error
