"""Who may import whom."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STDLIB = set(sys.stdlib_module_names)
FRAMEWORKS = {"torch", "jax", "jaxlib", "tensorflow", "keras", "optax", "numpy"}
TRAINERS = {
    "accelerate",
    "fastai",
    "ignite",
    "lightning",
    "ray",
    "skorch",
    "transformers",
}  # each in the adapter of its name
PROTO = {"dcao_proto", "pydantic", "pydantic_core"}  # the latter is the former's own
SERVER = PROTO | {
    "dcao_server", "annotated_types", "fastapi", "hiredis", "httptools", "msgpack", "opentelemetry",
    "prometheus_client", "pyarrow", "pydantic_settings", "redis", "rich", "sse_starlette", "starlette", "structlog",
    "typer", "typing_extensions", "uvicorn", "uvloop",
}  # fmt: skip
CLIENT = PROTO | {
    "dcao_client", "certifi", "httpcore", "httpx", "matplotlib", "plotille", "pydantic_settings", "rich", "typer",
}  # fmt: skip
PEERS = {"dadaptation", "dog", "momo", "prodigyopt", "prodigyplus", "pytorch_optimizer", "schedulefree"}
EXPERIMENTS = CLIENT | FRAMEWORKS | PEERS | {"dcao_experiments", "ray", "scipy", "sklearn", "transformers"}


def imported(path: Path) -> set[str]:
    """Top-level names that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names - STDLIB


def allowed(path: Path) -> set[str]:
    package = path.relative_to(ROOT).parts[0]
    if package == "client":
        # Frameworks only where curvature is measured and where values are written.
        if path.parent.name == "hooks" and path.stem in TRAINERS:
            return CLIENT | FRAMEWORKS | {path.stem}
        return CLIENT | FRAMEWORKS if {"spectrum", "hooks"} & set(path.parts) else CLIENT
    return {"proto": PROTO, "server": SERVER, "experiments": EXPERIMENTS}[package]


FILES = sorted(
    path for package in ("proto", "server", "client", "experiments") for path in (ROOT / package).rglob("*.py")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_package_may(path):
    """proto ← server, proto ← client ← experiments; nothing points back, the server never sees torch."""
    assert imported(path) <= allowed(path)


def test_the_probe_knows_nothing_of_the_network_nor_of_hooks():
    """Algorithms take a matvec; they neither talk nor apply."""
    for path in (ROOT / "client/dcao_client/spectrum").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "dcao_client.hooks" not in text, path
        assert "httpx" not in imported(path), path


def test_the_mathematics_knows_no_framework():
    """What multiplies by a Hessian is in a package for each; NumPy holds the small projected matrix."""
    rooms = ROOT / "client/dcao_client/spectrum"
    for path in rooms.glob("*.py"):
        assert imported(path) & FRAMEWORKS <= {"numpy"}, path
    for room in (path for path in rooms.iterdir() if path.is_dir() and path.name != "__pycache__"):
        for path in room.glob("*.py"):
            assert imported(path) & FRAMEWORKS <= {"numpy", room.name}, path
            others = [other.name for other in rooms.iterdir() if other.is_dir() and other != room]
            assert not any(f"dcao_client.spectrum.{other}" in path.read_text("utf-8") for other in others), path


def test_nothing_is_called_utils():
    """A name that says nothing is not a place."""
    assert not [path for path in FILES if path.stem in ("utils", "helpers", "misc", "common")]
