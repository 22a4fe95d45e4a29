"""The wheel is what people get."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each needs its framework, and is imported where that is: tests/frameworks.
ADAPTERS = (
    *(
        f"dcao_client.hooks.{name}"
        for name in ("accelerate", "fastai", "ignite", "lightning", "optax", "ray", "skorch", "transformers")
    ),
    *(f"dcao_client.hooks.jax_{name}" for name in ("control", "optimizer", "path", "standing", "steering")),
    *(f"dcao_client.spectrum.jax.{name}" for name in ("arrays", "operator", "probe", "tree")),
    *(f"dcao_client.spectrum.tensorflow.{name}" for name in ("arrays", "borrowed", "layout", "operator", "probe")),
)
PACKAGES = ["dcao_proto", "dcao_server", "dcao_client", "dcao_experiments"]


def run(*arguments: str | Path, **options: object) -> str:
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    run("-m", "pip", "install", "-q", "--no-deps", "--target", target, wheel)
    return target


def test_every_module_imports_from_the_wheel(installed):
    """With the source out of sight, every module of every package imports; a file left out of the wheel shows here."""
    program = f"""
import importlib, pkgutil, sys
from pathlib import Path
target = Path(sys.argv[1])
sys.path.insert(0, str(target))
for package in sys.argv[2:]:
    top = importlib.import_module(package)
    assert Path(top.__file__).is_relative_to(target), top.__file__
    for module in pkgutil.walk_packages(top.__path__, package + "."):
        if not module.name.endswith(("__main__", ".conformance", *{ADAPTERS})):
            importlib.import_module(module.name)
print("ok")
"""
    assert run("-W", "ignore", "-c", program, installed, *PACKAGES, cwd=installed).strip() == "ok"


def test_the_wheel_holds_types_scripts_and_page(installed):
    """py.typed for each package, Lua scripts, the page's assets, and no tests."""
    for package in PACKAGES:
        assert (installed / package / "py.typed").exists()
    assert list((installed / "dcao_server").rglob("*.lua"))
    assert list((installed / "dcao_server/page").rglob("*.js"))
    assert not (installed / "tests").exists()


@pytest.mark.parametrize(
    ("extra", "never"),
    [
        ("", ["torch", "fastapi", "httpx", "redis"]),
        ("server", ["torch", "httpx"]),
        ("client", ["torch", "jax", "fastapi", "redis", "uvicorn"]),
        ("torch", ["jax", "fastapi", "redis", "uvicorn"]),
        ("optax", ["torch", "fastapi", "redis", "uvicorn"]),
        ("tensorflow", ["torch", "jax", "fastapi", "redis", "uvicorn"]),
    ],
    ids=["base", "server", "client", "torch", "optax", "tensorflow"],
)
def test_an_extra_brings_no_more_than_its_side_needs(wheel, extra, never, tmp_path):
    """What pip would install into an empty environment."""
    requirement = f"{wheel}[{extra}]" if extra else str(wheel)
    constraints = ROOT / "constraints.txt"
    run("-m", "venv", tmp_path / "empty")
    python = tmp_path / "empty" / "bin" / "python"
    report = tmp_path / "report.json"
    command = [
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "-q",
        "--dry-run",
        "--report",
        report,
        "-c",
        constraints,
        requirement,
    ]
    run(*command, env=os.environ)
    names = {item["metadata"]["name"].lower() for item in json.loads(report.read_text())["install"]}
    assert {"pydantic", *({extra} & {"torch", "optax", "tensorflow"})} <= names
    assert not names & set(never)
