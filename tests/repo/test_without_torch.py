"""`pip install 'dcao[client]'` brings no framework: what needs none works, and the rest says what to install."""

import subprocess
import sys

import pytest

BLOCKED = "import sys; sys.modules.update(dict.fromkeys(('torch', 'jax', 'tensorflow')))\n"  # their import fails then


def run(program: str, *arguments: str, tmp_path: object = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + program, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )


def test_a_session_decides(tmp_path):
    """Everything but a framework's own names."""
    done = run(
        """
import dcao_client, dcao_client.spectrum, dcao_client.hooks.attachment, dcao_client.hooks.disabled
from dcao_client import Attachment, MicroBatches, Session
from dcao_client.spectrum import Budget, ProbeSettings, Spectrum
from dcao_proto import Hyperparameters, Observation, RunSpec
spec = RunSpec(optimizer="sgd", base=Hyperparameters(lr=0.1, momentum=0.9))
with Session(spec, run="r") as session:
    print(session.decide(Observation(step=0, rho=12.3, gamma=4.1)).regime)
""",
        tmp_path=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_mathematics_solves():
    """Lanczos on NumPy's arrays."""
    done = run("""
import numpy as np
from dcao_client.spectrum.lanczos import lanczos
from dcao_client.spectrum.stop import Stop
print(lanczos(lambda v: np.array([5.0, 3.0, 1.0]) * v, np.ones(3), max_matvecs=3, stop=Stop()).found.values.round(9))
""")
    assert done.stdout.strip() == "[5. 3. 1.]", done.stderr


@pytest.mark.parametrize(
    "name", ["dcao_client.DCAO", "dcao_client.attach", "dcao_client.spectrum.Probe", "dcao_client.spectrum.report"]
)
def test_a_name_that_needs_torch_says_which_extra(name):
    module, _, what = name.rpartition(".")
    done = run(f"import {module}\n{module}.{what}")
    assert f"{name} needs torch, which is not installed: pip install 'dcao[torch]'" in done.stderr


@pytest.mark.parametrize("command", ["", "runs", "show", "export", "replay", "sync", "policies"])
def test_the_command_line_works(command):
    program = "sys.argv = ['dcao', *sys.argv[1:]]\nfrom dcao_client.cli.main import main\nmain()"
    done = run(program, *command.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
