"""The `dcao` command against a real controller."""

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from dcao_client import Session
from dcao_client.cli.show import living
from dcao_experiments.controller_process import free_port
from dcao_proto.policy.reasons import REGIMES
from dcao_proto.policy.why import why
from tests.client.test_session import SPEC, history, observations
from tests.components.controller import Controller

DCAO = Path(sys.executable).with_name("dcao")


def dcao(*arguments: str, url: str = "http://127.0.0.1:9", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DCAO_URL": url, "COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run([DCAO, *arguments], capture_output=True, text=True, env=environment, timeout=120, cwd=cwd)


@pytest.fixture(scope="module")
def recorded(controller: Controller, tmp_path_factory: pytest.TempPathFactory) -> list:
    """A finished run named `cli` with 30 decisions."""
    journal = tmp_path_factory.mktemp("journal")
    with Session(SPEC, run="cli", url=controller.url, journal_dir=journal, deadline=10, strict=True) as session:
        return [session.decide(o) for o in observations(30)]


def test_runs_lists_the_run(controller, recorded):
    """Name, status and number of decisions."""
    out = dcao("runs", url=controller.url).stdout
    line = next(line for line in out.splitlines() if "cli" in line)
    assert "finished" in line
    assert "30" in line


def test_show_plots_the_run_and_says_why(controller, recorded):
    """Sharpness, learning rate, edge ratio, and why its values are what they are, from what to what."""
    out = dcao("show", "cli", url=controller.url).stdout
    for part in ("sharpness ρ", "learning rate η", "edge ratio", "30 decisions", f"step {recorded[-1].step}"):
        assert part in out
    flat = " ".join(out.split())
    assert REGIMES[recorded[-1].regime] in flat
    for sentence in why(recorded[-1], recorded[-2]):
        assert sentence in flat
    assert "⠤" in out or "⣀" in out or "⠒" in out  # something was drawn


def test_watch_ends_with_the_run(controller, recorded):
    """A finished run is shown once; watching stops by itself."""
    result = dcao("watch", "cli", url=controller.url)
    assert result.returncode == 0
    assert "finished" in result.stdout


def test_export_is_exact_in_every_format(controller, recorded, tmp_path):
    """The CSV's η has the bits of the decision's η; a file appears only when it is complete."""
    rows = list(csv.DictReader(io.StringIO(dcao("export", "cli", url=controller.url).stdout)))
    assert [float(row["lr"]) for row in rows] == [d.lr for d in recorded]
    assert [int(row["step"]) for row in rows] == [d.step for d in recorded]
    assert (
        dcao("export", "cli", "--format", "ndjson", "--out", "h.ndjson", url=controller.url, cwd=tmp_path).returncode
        == 0
    )
    assert len((tmp_path / "h.ndjson").read_text().splitlines()) == 30
    assert (
        dcao("export", "cli", "--format", "parquet", "--out", "h.parquet", url=controller.url, cwd=tmp_path).returncode
        == 0
    )
    from pyarrow import parquet

    assert parquet.read_table(tmp_path / "h.parquet").column("lr").to_pylist() == [d.lr for d in recorded]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["h.ndjson", "h.parquet"]


def test_replay_shows_what_another_policy_would_have_decided(controller, recorded, tmp_path):
    """Under itself nothing differs; under `constant` all multipliers are 1; the picture shows both."""
    same = dcao("replay", "cli", "--policy", "default", url=controller.url).stdout
    assert "0 of 30 decisions differ" in same
    out = dcao("replay", "cli", "--policy", "constant", "--out", str(tmp_path / "r.png"), url=controller.url).stdout
    assert "×1.000" in out
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    wrong = dcao("replay", "cli", "--policy", "paper", "--param", "alpha=-1", url=controller.url)
    assert wrong.returncode == 1
    assert "alpha" in wrong.stderr


def test_keys_are_made_by_the_controllers_own_command():
    """`dcao keys` is `dcao-controller keys`."""
    assert "create" in dcao("keys", "--help").stdout


def test_sync_sends_a_journal_once_however_often_it_is_called(controller, tmp_path):
    """An embedded run's journal becomes a run of the controller; the file goes when everything is there."""
    with Session(SPEC, run="synced", journal_dir=tmp_path) as session:
        decisions = [session.decide(o) for o in observations(12)]
    journal = next(tmp_path.rglob("synced.jsonl"))
    assert "12 stored, 0 were there already" in dcao("sync", str(journal), "--keep", url=controller.url).stdout
    assert "0 stored, 12 were there already" in dcao("sync", str(journal), url=controller.url).stdout
    assert not journal.exists()
    rows = list(csv.DictReader(io.StringIO(dcao("export", "synced", url=controller.url).stdout)))
    assert [float(row["lr"]) for row in rows] == [d.lr for d in decisions]


def test_what_a_newer_attempt_took_over_is_said_kept_and_not_drawn(controller, tmp_path):
    """A training without a controller, under a name that has moved on: nothing is stored, nothing lost."""
    with Session(SPEC, run="moved-on", journal_dir=tmp_path) as session:
        for o in observations(3):
            session.decide(o)
    journal = next(tmp_path.rglob("moved-on.jsonl"))
    for attempt, steps in ((1, 5), (2, 2)):
        with Session(SPEC, run="moved-on", url=controller.url, journal_dir=tmp_path / str(attempt), deadline=10) as one:
            for o in observations(steps):
                one.decide(o)
    sent = dcao("sync", str(journal), url=controller.url)
    assert (sent.returncode, journal.exists()) == (1, True)
    assert "3 fenced off" in sent.stdout
    assert "3 are of an attempt that a newer one has taken over" in " ".join(sent.stderr.split())
    records = history(controller.url, "moved-on")
    assert len(records) == 7
    assert [r.attempt for r in living(records)] == [2, 2]


def test_policies_lists_the_laws_and_their_parameters():
    """Needs no controller."""
    assert "paper" in dcao("policies").stdout
    out = dcao("policies", "paper").stdout
    assert "alpha" in out
    assert "ln2" in out
    assert "expected one of the policies" in dcao("policies", "magic").stderr


@pytest.mark.parametrize("command", [("runs",), ("show", "cli"), ("export", "cli")])
def test_a_missing_controller_is_one_sentence(command):
    """Exit code 1, what was expected, what to do, no traceback."""
    result = dcao(*command)
    assert result.returncode == 1
    assert "expected a controller at http://127.0.0.1:9" in result.stderr
    assert "dcao serve" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_run_is_one_sentence(controller):
    """The problem document as a sentence."""
    result = dcao("show", "nobody", url=controller.url)
    assert result.returncode == 1
    assert "No such run" in result.stderr
    assert "Traceback" not in result.stderr


def test_serve_starts_the_controller_and_keeps_its_file_in_the_data_folder(tmp_path):
    """`dcao serve` becomes the controller: ready, on SQLite in DIR, gone on SIGTERM."""
    port = free_port()
    command = [DCAO, "serve", "--port", str(port), "--data", str(tmp_path / "store")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(300):
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).is_success:
                    break
            except httpx.HTTPError:
                time.sleep(0.05)
        else:
            raise AssertionError("dcao serve did not become ready")
        assert any((tmp_path / "store").iterdir())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_demo_trains_with_right_wrong_spoilt_and_no_rates_and_draws_them(tmp_path):
    """The demo in small: a controller, every training, a table and a picture."""
    result = dcao("demo", "--data", "digits", "--steps", "20", "--out", str(tmp_path / "demo.png"))
    assert result.returncode == 0, result.stderr
    for name in ("DCAO(model, loss)", "tuned × 8", "spike", "guard", "test accuracy"):
        assert name in result.stdout
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
