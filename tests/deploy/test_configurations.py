"""Each service's own program accepts the configuration that its image holds."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest
import redis
import yaml

from dcao_proto.secret_file import read_secret

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def program(name: str, package: str) -> str:
    """Where the program is.

    Raises:
        AssertionError: it is not installed; the text says what to install.
    """
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"expected {name} on the PATH, found none; apt-get install {package}"
    return found


def test_haproxy_accepts_the_proxy_configuration_without_a_warning() -> None:
    command = [program("haproxy", "haproxy"), "-c", "-dW", "-f", str(DEPLOY / "haproxy/haproxy.cfg")]
    environment = {**os.environ, "DCAO_UPSTREAM": "controller:8080", "DCAO_UPSTREAM_METRICS": "controller:8081"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_promtool_accepts_the_scrape_configuration_and_every_rule_it_loads(tmp_path: Path) -> None:
    configuration = (DEPLOY / "prometheus/prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(
        configuration.replace("/etc/prometheus/rules", str(DEPLOY / "prometheus/rules"))
    )
    done = subprocess.run(
        [program("promtool", "prometheus"), "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_grafana_finds_the_data_source_and_the_dashboards_where_the_image_puts_them() -> None:
    source = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    assert source["datasources"][0]["uid"] == "dcao-prometheus"
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/dcao.yml").read_text())["providers"][0]
    image = (DEPLOY / "grafana.Dockerfile").read_text()
    assert f"COPY deploy/grafana/dashboards {provider['options']['path']}\n" in image
    assert "GF_AUTH_ANONYMOUS_ENABLED=false" in image


@pytest.fixture
def started(tmp_path: Path) -> dict[str, str]:
    """An environment in which start.sh runs outside its image: its configuration's path and data folder replaced."""
    (tmp_path / "password").write_text("b7e1")
    script = (DEPLOY / "redis/start.sh").read_text()
    conf = (DEPLOY / "redis/redis.conf").read_text().replace("dir /data", f"dir {tmp_path}")
    (tmp_path / "base.conf").write_text(conf + f"port 0\nunixsocket {tmp_path}/s\n")
    (tmp_path / "start.sh").write_text(script.replace("/usr/local/etc/redis/redis.conf", str(tmp_path / "base.conf")))
    return {**os.environ, "TMPDIR": str(tmp_path), "DCAO_REDIS_PASSWORD_FILE": str(tmp_path / "password")}


def test_redis_starts_with_the_password_of_the_file_and_the_durability_that_is_promised(
    started: dict[str, str], tmp_path: Path
) -> None:
    program("redis-server", "redis-server")
    process = subprocess.Popen(["sh", str(tmp_path / "start.sh")], env=started, stdout=subprocess.DEVNULL)

    def ask(*words: str, password: str = "b7e1") -> str:
        environment = {**os.environ, "REDISCLI_AUTH": password} if password else dict(os.environ)
        command = ["redis-cli", "-s", str(tmp_path / "s"), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.strip()

    try:
        end = time.monotonic() + 10
        while ask("ping") != "PONG":
            assert time.monotonic() < end, "expected redis-server to answer within 10 s"
            time.sleep(0.02)
        assert ask("get", "x", password="") == "NOAUTH Authentication required."
        for name, value in [("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "noeviction")]:
            assert ask("config", "get", name).split() == [name, value]
        assert "b7e1" not in Path(f"/proc/{process.pid}/cmdline").read_text()
        assert stat.S_IMODE((tmp_path / "redis.conf").stat().st_mode) == 0o600
    finally:
        process.terminate()
        process.wait(10)


PASSWORDS = [
    "with space",
    'a"b',
    "a'b",
    "back\\slash",
    "#hash $HOME `id` %s",
    '" requirepass x',
    "\\n",
    "ünïcode",
    "trailing ",
]


@pytest.mark.parametrize("ends", ["", "\n", "\r\n", "mark"])
@pytest.mark.parametrize("password", PASSWORDS)
def test_any_password_is_the_one_that_the_controller_reads(
    password: str, ends: str, started: dict[str, str], tmp_path: Path
) -> None:
    """The script writes it as redis.conf wants it; here the two programs that read it are asked what they read."""
    file = tmp_path / "password"
    file.write_bytes(b"\xef\xbb\xbf" + password.encode() if ends == "mark" else (password + ends).encode())
    assert read_secret(file) == password
    # In the place of redis-server and redis-cli, programs that say what they were given; one real start is below.
    (tmp_path / "redis-server").write_text("#!/bin/sh\ngrep ^requirepass $1\n")
    (tmp_path / "redis-cli").write_text('#!/bin/sh\nprintf %s "$REDISCLI_AUTH" >"$TMPDIR/asked"\necho PONG\n')
    for name in ("redis-server", "redis-cli"):
        (tmp_path / name).chmod(0o755)
    environment = {**started, "PATH": f"{tmp_path}:{started['PATH']}"}
    command = ["sh", str(tmp_path / "start.sh")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    escaped = password.replace("\\", "\\\\").replace('"', '\\"')
    assert done.stdout == f'requirepass "{escaped}"\n'
    assert done.stderr == ""
    subprocess.run([*command, "ping"], env=environment, check=True)
    assert (tmp_path / "asked").read_text() == password


def test_a_real_redis_starts_with_a_password_of_signs(started: dict[str, str], tmp_path: Path) -> None:
    password = "a b\"c'd\\e#f$g%h"
    (tmp_path / "password").write_text(password + "\n")
    command = ["sh", str(tmp_path / "start.sh")]
    process = subprocess.Popen(command, env=started, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        client = redis.Redis(unix_socket_path=str(tmp_path / "s"), password=password)
        end = time.monotonic() + 10
        while True:
            try:
                assert client.ping()
                break
            except (redis.ConnectionError, redis.BusyLoadingError):
                assert time.monotonic() < end, "expected redis-server to answer within 10 s"
                time.sleep(0.02)
        client.close()
    finally:
        process.terminate()
        said = process.communicate(timeout=10)[0]
    assert password.encode() not in said


@pytest.mark.parametrize(
    "data", [b"\n", b"hunter2\nb", b"hunter2\rb", "hunter2".encode("utf-16")], ids=["line end", "two", "cr", "utf-16"]
)
def test_a_file_that_holds_no_password_is_refused_without_printing_it(
    data: bytes, started: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "password").write_bytes(data)
    done = subprocess.run(["sh", str(tmp_path / "start.sh")], env=started, capture_output=True, check=False, timeout=10)
    assert done.returncode == 1
    assert done.stderr.startswith(b"dcao-redis: expected the Redis password in ")
    assert b"hunter2" not in done.stderr + done.stdout


def test_every_health_check_of_redis_asks_by_the_script_that_knows_the_password() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert compose["services"]["redis"]["healthcheck"]["test"] == ["CMD", "sh", "/usr/local/bin/dcao-redis", "ping"]
    manifests = (DEPLOY / "kubernetes/redis/redis.yaml").read_text()
    assert manifests.count("command: [sh, /usr/local/bin/dcao-redis, ping]") == 2
    assert "REDISCLI_AUTH" not in manifests


def test_redis_without_a_password_refuses_to_start_and_says_what_to_do(started: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("")
    done = subprocess.run(
        ["sh", str(tmp_path / "start.sh")], env=started, capture_output=True, text=True, check=False, timeout=10
    )
    assert done.returncode == 1
    assert "make one with deploy/secrets.sh" in done.stderr
