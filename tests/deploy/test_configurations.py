"""Each service's own program accepts the configuration that its image holds."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest
import yaml

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


def test_redis_without_a_password_refuses_to_start_and_says_what_to_do(started: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "password").write_text("")
    done = subprocess.run(
        ["sh", str(tmp_path / "start.sh")], env=started, capture_output=True, text=True, check=False, timeout=10
    )
    assert done.returncode == 1
    assert "make one with deploy/secrets.sh" in done.stderr
