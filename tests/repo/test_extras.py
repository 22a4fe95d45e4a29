"""Each extra gets exactly its commands; the others say which to install. From the wheel, in clean environments."""

import json
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.components.clean_environment import CleanEnvironment

READING = {"runs", "show", "watch", "export", "replay", "sync"}
OF_CONTROLLER = {"serve", "keys", "gc"}
EVERY = READING | OF_CONTROLLER | {"policies", "probe", "demo", "experiment"}
COMMANDS = {
    "server": OF_CONTROLLER | {"policies"},
    "client": READING | {"policies"},
    "torch": READING | {"policies", "probe"},
    "all": EVERY,
}
ASK_EACH = """
import contextlib, io, json, sys
from dcao_client.cli.commands import entries, run
found = {}
for name in entries():
    sys.argv = ["dcao", name, "--help"]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = run()
        except SystemExit as end:
            code = end.code
    found[name] = [code, out.getvalue(), err.getvalue()]
print(json.dumps(found))
"""


@pytest.fixture(scope="module", params=[*COMMANDS])
def environment(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory):
    """The extra's name, and an environment with it."""
    folder = tmp_path_factory.mktemp(request.param) / "environment"
    return request.param, CleanEnvironment(folder, wheel, request.param)


def test_each_extra_has_its_commands_and_no_others(environment):
    """Those that it has print their usage; every other one ends with 1 and one line that names the extra."""
    extra, clean = environment
    asked = clean.run("python", "-c", ASK_EACH)
    assert asked.returncode == 0, asked.stderr
    found = json.loads(asked.stdout)
    assert found.keys() == EVERY
    for name, (code, out, err) in found.items():
        if name in COMMANDS[extra]:
            assert (code, err) == (0, ""), name
            assert f"Usage: dcao {name}" in out
        else:
            assert code == 1, name
            assert err.startswith(f"dcao {name} needs the package ")
            assert "pip install 'dcao[" in err
            assert len(err.splitlines()) == 1


def test_both_programs_start_and_tell_their_version(environment):
    """`dcao` everywhere, `dcao-controller` where it is installed."""
    extra, clean = environment
    listed = clean.run("dcao", "--help")
    assert listed.returncode == 0, listed.stderr
    assert all(name in listed.stdout for name in EVERY)
    assert ("Not installed" in listed.stdout) == (extra != "all")
    assert clean.run("dcao", "--version").stdout.startswith("dcao 0.")
    versions = clean.run("python", "-c", "import dcao_client, dcao_proto; print(dcao_client.__version__)")
    assert versions.stdout.startswith("0."), versions.stderr
    controller = clean.run("dcao-controller", "--version")
    if extra in ("client", "torch"):
        assert controller.returncode == 1
        assert controller.stderr.startswith("dcao-controller needs the package ")
        assert "pip install 'dcao[server]'" in controller.stderr
    else:
        assert controller.stdout.startswith("dcao-controller 0.")


def test_the_bare_wheel_says_what_to_install(wheel, tmp_path):
    """Only pydantic is there."""
    clean = CleanEnvironment(tmp_path / "environment", wheel)
    for program in ("dcao", "dcao-controller"):
        done = clean.run(program, "runs")
        assert done.returncode == 1
        assert "pip install 'dcao[" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_session_says_what_it_needs(wheel, tmp_path):
    """Where only the controller is installed."""
    clean = CleanEnvironment(tmp_path / "environment", wheel, "server")
    done = clean.run("python", "-c", "from dcao_client import Session")
    assert "dcao_client.Session needs httpx, which is not installed: pip install 'dcao[client]'" in done.stderr


def test_the_server_serves_and_the_client_asks(wheel, tmp_path):
    """Two environments of which neither has what the other has, and one run between them."""
    server = CleanEnvironment(tmp_path / "server", wheel, "server")
    client = CleanEnvironment(tmp_path / "client", wheel, "client")
    command = [str(server.bin / "dcao"), "serve", "--port", "0", "--data", str(tmp_path / "data")]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=server.environment(DCAO_DRAIN_SECONDS="0")
    ) as process:
        try:
            assert process.stderr is not None
            url = next(json.loads(line)["url"] for line in process.stderr if '"url"' in line)
            request = urllib.request.Request(
                f"{url}/v1/projects/default/runs/clean", method="PUT", headers={"content-type": "application/json"},
                data=b'{"optimizer": "sgd", "base": {"lr": 0.1}}',
            )  # fmt: skip
            urllib.request.urlopen(request, timeout=20).read()
            listed = client.run("dcao", "runs", DCAO_URL=url)
            assert "clean" in listed.stdout, listed.stderr
        finally:
            process.send_signal(signal.SIGTERM)
