"""Commands that read runs: in any terminal, in a pipe, and when the controller goes away."""

import json
import os
import pty
import select
import shlex
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from dcao_client import RefusedError, Session, UnreachableError
from dcao_client.cli.api import Api
from dcao_client.cli.output import CommandError
from dcao_proto import PolicyChoice
from tests.client.test_cli import DCAO, dcao
from tests.client.test_session import SPEC, observations
from tests.components.controller import Controller

LONG = "an-experiment-whose-name-says-what-it-does-as-they-do-seed-17"
NARROW = {"COLUMNS": "80"}
JSON = {"content-type": "application/json"}


def plain(*arguments: str, url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Piped, as `dcao runs | grep` is: nobody says how wide it may be."""
    kept = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment = {**kept, "DCAO_URL": url, "NO_COLOR": "1", **environment}
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    return subprocess.run([DCAO, *arguments], capture_output=True, encoding=encoding, env=environment, timeout=60)


@pytest.fixture(scope="module")
def many(controller: Controller, tmp_path_factory: pytest.TempPathFactory) -> Controller:
    """Runs of two projects, one of them with a long name."""
    for project, names in {"crowd": ["a", "b", LONG], "other": ["c"]}.items():
        for name in names:
            folder = tmp_path_factory.mktemp("journal")
            with Session(
                SPEC, run=name, project=project, url=controller.url, journal_dir=folder, deadline=10
            ) as session:
                for seen in observations(3):
                    session.decide(seen)
    return controller


def test_eighty_columns_hold_what_every_run_is_asked(many):
    """Status, step, edge ratio, loss and rate of every run stand in its first line; only the name is broken."""
    out = plain("runs", "--project", "crowd", url=many.url, **NARROW).stdout
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    for heading in ("status", "step", "edge ratio", "loss", "lr", "observed"):
        assert heading in lines[1]
    row = next(line for line in lines if LONG[:12] in line)
    assert row.split()[1:3] == ["finished", "20"]
    edge, loss, lr = map(float, row.split()[3:6])
    assert edge > 0
    assert loss == pytest.approx(observations(3)[2].loss, rel=1e-3)
    assert lr > 0
    names = slice(0, lines[1].index("status"))
    assert LONG in "".join(line[names].strip() for line in lines)


def test_in_a_pipe_a_run_is_a_line(many):
    """With its whole name, so that grep and awk find it."""
    out = plain("runs", "--project", "crowd", url=many.url).stdout
    (line,) = (line for line in out.splitlines() if LONG in line)
    assert "finished" in line
    assert line.split()[0] == LONG


def test_json_has_each_run_and_its_newest_record(many):
    """Numbers as they are, for programs."""
    found = json.loads(plain("runs", "--project", "crowd", "--json", url=many.url).stdout)
    assert [run["run"] for run in found] == [LONG, "b", "a"]
    assert all(run["newest"]["step"] == run["last_step"] == 20 for run in found)
    assert found[0]["newest"]["decision"]["edge_ratio"] > 0


def test_a_limit_says_that_there_is_more(many):
    """The newest first."""
    out = plain("runs", "--project", "crowd", "--limit", "1", url=many.url).stdout
    assert LONG in out
    assert "the newest 1; --limit 10 shows more" in out
    assert "shows more" not in plain("runs", "--project", "crowd", "--limit", "3", url=many.url).stdout


def test_all_projects(many):
    """Each run with its project."""
    out = plain("runs", "--all-projects", "--limit", "1000", url=many.url).stdout
    assert "crowd/a" in out
    assert "other/c" in out


def test_all_projects_are_more_than_a_page_of_them(tmp_path):
    """The controller names a hundred at once."""
    server = Controller(tmp_path)
    try:
        for number in range(105):
            url = f"{server.url}/v1/projects/p{number}/runs/r"
            httpx.put(url, content=SPEC.wire_json(), headers=JSON, trust_env=False).raise_for_status()
        out = plain("runs", "--all-projects", "--limit", "1000", url=server.url).stdout
        assert all(f"p{number}/r " in out for number in range(105))
    finally:
        server.kill()


def test_nothing_to_list_is_said(many):
    """Not shown as a table without rows; a project that there is not ends with 1, and names those that there are."""
    unknown = plain("runs", "--project", "nope", url=many.url)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr.startswith("expected a project with runs, got nope, which has none; there are: ")
    assert {"crowd", "other"} <= set(unknown.stderr.rpartition(": ")[2].strip().split(", "))
    assert plain("runs", "--project", "nope", "--json", url=many.url).returncode == 1
    narrowed = plain("runs", "--project", "crowd", "--status", "failed", url=many.url)
    assert (narrowed.returncode, narrowed.stdout) == (
        0, "no such runs in project crowd; without --status and --label there may be others\n",
    )  # fmt: skip
    assert plain("runs", "--project", "crowd", "--status", "failed", "--json", url=many.url).stdout == "[]\n"


def test_a_controller_without_runs_says_how_to_make_one(tmp_path):
    server = Controller(tmp_path)
    try:
        assert plain("runs", url=server.url).stdout.startswith(
            "no runs in project default yet; a training with DCAO_URL="
        )
        assert plain("runs", "--all-projects", url=server.url).stdout.startswith("no runs in any project yet")
        httpx.put(
            f"{server.url}/v1/projects/default/runs/bare", content=SPEC.wire_json(), headers=JSON, trust_env=False
        ).raise_for_status()
        assert "no decisions yet" in plain("show", "bare", url=server.url).stdout
        assert "has no decisions yet; what is written is empty" in plain("export", "bare", url=server.url).stderr
        replayed = plain("replay", "bare", "--policy", "paper", url=server.url)
        assert (replayed.returncode, "which has none yet" in replayed.stderr) == (1, True)
    finally:
        server.kill()


def test_what_does_not_fit_says_what_would(many):
    """Allowed values, the form of a label, the field that the controller refuses."""
    refused = plain("runs", "--status", "done", url=many.url)
    assert refused.returncode == 2
    assert all(f"'{status}'" in refused.stderr for status in ("created", "active", "stale", "finished", "failed"))
    refused = plain("runs", "--label", "seed", url=many.url)
    assert (refused.returncode, refused.stderr) == (2, "expected --label name=value, got 'seed'\n")
    with (
        closing(Api(many.url, None)) as api,
        pytest.raises(CommandError, match=r"query\.limit: .*greater than or equal to 1"),
    ):
        api.get("/v1/projects/crowd/runs", limit=0)
    refused = plain("replay", "a", "--project", "crowd", "--policy", "two words", url=many.url)
    assert (refused.returncode, refused.stderr) == (
        2,
        "expected the name of a policy, got 'two words'; see: dcao policies\n",
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_is_not_utf8_gets_what_it_can_show(many, encoding):
    """Plots of signs that it has, names in place of Greek letters; nothing dies."""
    for command in ("show a", "runs", "policies default", "--help"):
        done = plain(*command.split(), url=many.url, PYTHONIOENCODING=encoding, DCAO_PROJECT="crowd")
        assert (done.returncode, done.stderr) == (0, ""), command
    shown = plain("show", "a", url=many.url, PYTHONIOENCODING=encoding, DCAO_PROJECT="crowd").stdout
    assert "rho" in shown
    assert "****" in shown


def test_completion_knows_the_commands():
    """What a shell asks for `dcao ru<TAB>` and `dcao runs --lim<TAB>`."""
    asked = {"_DCAO_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert plain(url="", COMP_WORDS="dcao ru", **asked).stdout.split() == ["runs"]
    options = plain(url="", COMP_WORDS="dcao runs --lim", **{**asked, "COMP_CWORD": "2"}).stdout
    assert "--limit" in options
    shell = ["bash", "-c", f"{shlex.quote(str(DCAO))} --show-completion; exit $?"]  # the one that asks is looked for
    assert "complete" in subprocess.run(shell, capture_output=True, text=True, timeout=60, check=True).stdout


def test_export_makes_its_folder(many, tmp_path):
    """As `replay --out` and `demo --out` do; a place that cannot be is a sentence."""
    out = tmp_path / "new" / "folder" / "a.csv"
    done = plain("export", "a", "--project", "crowd", "--out", str(out), url=many.url)
    assert done.returncode == 0
    assert len(out.read_text().splitlines()) == 4
    done = plain("export", "a", "--project", "crowd", "--out", "/proc/none/a.csv", url=many.url)
    assert done.returncode == 1
    assert done.stderr.startswith("expected to write /proc/none/a.csv, got ")


def test_a_history_of_more_than_a_page_is_exported_whole_as_json_too(controller, tmp_path):
    """The controller's own JSON is a page of 1,000."""
    spec = SPEC.model_copy(update={"policy": PolicyChoice(name="constant")})
    with Session(spec, run="pages", journal_dir=tmp_path) as session:
        for seen in observations(1100):
            session.decide(seen)
    dcao("sync", str(next(tmp_path.rglob("pages.jsonl"))), url=controller.url)
    records = json.loads(plain("export", "pages", "--format", "json", url=controller.url).stdout)["records"]
    assert [record["step"] for record in records] == [seen.step for seen in observations(1100)]


class Cut(BaseHTTPRequestHandler):
    """A controller that knows a run, and dies while it sends the history; or that has moved."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "/moved/" in self.path:
            self.send_response(301)
            self.send_header("location", "https://dcao.example/v1")
            self.send_header("content-length", "0")
            self.end_headers()
        elif self.path.endswith("/runs/cut"):
            run = {"project": "default", "run": "cut", "spec": SPEC.wire(), "status": "active", "attempt": 1}
            body = json.dumps({**run, "version": 1, "created_at": 0, "updated_at": 0, "decisions": 1}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\na,b,c\r\n")
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    do_PUT = do_GET  # noqa: N815  (its name in the base class)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def cut() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cut)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_controller_that_dies_during_an_export_leaves_nothing_half(cut, tmp_path):
    """One sentence, and neither the file nor a part of it."""
    done = plain("export", "cut", "--out", str(tmp_path / "h.csv"), url=cut)
    assert done.returncode == 1
    assert "expected a controller at" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_says_where_to(cut, tmp_path):
    """To people, and in what a session logs; it is not followed, for the key would go along."""
    done = plain("show", "x", "--project", "moved", url=cut)
    assert done.returncode == 1
    assert "got a redirect (301) to https://dcao.example/v1; set DCAO_URL" in done.stderr
    session = Session(SPEC, run="r", project="moved", url=cut, journal_dir=tmp_path, strict=True, deadline=10)
    with pytest.raises((RefusedError, UnreachableError), match=r"redirect \(301\) to https://dcao\.example/v1"):
        session.decide(observations(1)[0])
    session.close()


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *command: str | Path, url: str) -> None:
        self._master, slave = pty.openpty()
        environment = {**os.environ, "DCAO_URL": url, "NO_COLOR": "1", "COLUMNS": "200", "TERM": "xterm"}
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
        os.close(slave)
        self._seen = ""

    def expect(self, text: str, seconds: float = 30.0) -> None:
        """Waits until it shows this, which it has not shown since the last time."""
        end = time.monotonic() + seconds
        while text not in self._seen:
            assert time.monotonic() < end, self._seen
            if select.select([self._master], [], [], 0.1)[0]:
                self._seen += os.read(self._master, 65536).decode(errors="replace")
        self._seen = ""

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def test_watch_goes_on_over_a_restart_of_the_controller(tmp_path):
    """It says that the controller is away, sees the run again, and ends when the run does."""
    server = Controller(tmp_path / "data")
    with Session(SPEC, run="w", url=server.url, journal_dir=tmp_path, deadline=10, strict=True) as session:
        session.decide(observations(1)[0])
        watch = Terminal(DCAO, "watch", "w", "--every", "0.1", url=server.url)
        try:
            watch.expect("active")
            server.kill()
            watch.expect("asked again every 0.1 s")
            server.start()
            httpx.post(f"{server.url}/v1/projects/default/runs/w:finish", trust_env=False).raise_for_status()
            watch.expect("finished")
            assert watch.process.wait(20) == 0
        finally:
            watch.close()
            server.kill()


def test_no_traceback_where_a_pipe_ends_early(many):
    """`dcao export … | head -1`."""
    command = f"{sys.executable} -m dcao_client.cli.main export a --project crowd | head -c 10"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, env={**os.environ, "DCAO_URL": many.url}, timeout=60
    )
    assert len(done.stdout) == 10
    assert "Traceback" not in done.stderr
