"""The frameworks are heavy and live in an environment of their own; `make test` leaves these tests to it."""

import importlib.util

import pytest
import torch

if importlib.util.find_spec("lightning") is None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    """Journals, runs and checkpoints of a test lie in its own folder, and nothing comes from outside."""
    monkeypatch.chdir(tmp_path)
    for name in ("DCAO_URL", "DCAO_TRUST", "DCAO_ENABLED", "DCAO_RUN"):
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(1)
    torch.manual_seed(0)
