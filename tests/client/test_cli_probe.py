"""`dcao probe` with arguments that do not fit: one sentence that says what does."""

from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from dcao_client.cli.output import CommandError
from dcao_client.cli.probe import probe

HERE = __name__
model = torch.nn.Linear(2, 1)
batch = (torch.ones(4, 2), torch.zeros(4, 1))
criterion = torch.nn.MSELoss()
GIVEN = {"--model": f"{HERE}:model", "--loss": f"{HERE}:loss", "--batch": f"{HERE}:batch"}


def loss(model, batch):
    return criterion(model(batch[0]), batch[1])


def say(**options: str | Path) -> str:
    """What the command says, on either stream, or as its error."""
    app = typer.Typer(add_completion=False)
    app.command()(probe)
    given = GIVEN | {f"--{name.replace('_', '-')}": str(value) for name, value in options.items()}
    result = CliRunner().invoke(app, [text for pair in given.items() for text in pair], env={"COLUMNS": "400"})
    if result.exit_code == 0:
        return result.output
    assert isinstance(result.exception, SystemExit | CommandError), result.exception
    return f"{result.exception} {result.output}"


def test_it_measures():
    """ρ of a linear regression on ones: 2·(1 + 1 + 1)."""
    assert "ρ (sharpness)" in say(optimizer="adamw", matvec="gauss_newton")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimizer": "adamwho"}, "'adamwho' is not one of 'sgd', 'nesterov', 'adam'"),
        ({"matvec": "finite"}, "'finite' is not one of 'auto', 'double_backward', 'gauss_newton'"),
        ({"max_matvecs": "0"}, "max_matvecs must be at least 2; got 0"),
        ({"checkpoint": "/nowhere/w.pt"}, "file '/nowhere/w.pt' does not exist"),
        ({"checkpoint": __file__}, f"expected a file of tensors only, got something else in {__file__}"),
        ({"loss": f"{HERE}:criterion"}, "got MSELoss, which compares outputs with targets; wrap it"),
        ({"model": f"{HERE}:batch"}, f"expected a torch module from '{HERE}:batch', got tuple"),
        ({"batch": f"{HERE}:none"}, f"could not find '{HERE}:none'"),
        ({"density": "/proc/none/d.png"}, "expected to draw /proc/none/d.png, got "),
    ],
)
def test_what_does_not_fit_is_a_sentence(options, said):
    """Allowed values, the shape of a loss, the file that is none."""
    assert said in say(**options)


def test_weights_of_another_model_are_named(tmp_path):
    """With what does not fit in them."""
    torch.save({"weight": torch.ones(3, 3)}, tmp_path / "w.pt")
    assert "expected weights of" in (words := say(checkpoint=tmp_path / "w.pt"))
    assert "size mismatch for weight" in words
