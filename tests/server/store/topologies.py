"""Real Redis in other shapes: a cluster of three masters, a master with a replica and Sentinels, TLS, an ACL user."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from dcao_experiments.controller_process import free_port
from tests.components.redis_server import RedisServer


def until(condition: Any, seconds: float = 30.0) -> None:
    """Waits for it."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError):
            if condition():
                return
        assert time.monotonic() < end, f"expected it within {seconds} s"
        time.sleep(0.05)


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[list[RedisServer]]:
    """Three masters that share the slots."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port")
    # The bus port would be 10,000 above the port, which may be too high.
    nodes = [RedisServer(folder / f"node{index}", *options, str(free_port())) for index in range(3)]
    try:
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        client = shutil.which("redis-cli")
        assert client is not None
        command = [client, "--cluster", "create", *addresses, "--cluster-replicas", "0", "--cluster-yes"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        for node in nodes:
            with node.client() as asking:
                until(lambda asking=asking: "cluster_state:ok" in _text(asking))  # type: ignore[misc]
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def _text(client: "redis.Redis") -> str:
    """CLUSTER INFO, whichever way this redis-py gives it."""
    found = client.execute_command("CLUSTER INFO")
    return f"cluster_state:{found['cluster_state']}" if isinstance(found, dict) else str(found)


class Watched:
    """A master, its replica, and three Sentinels that watch them."""

    service = "dcao"

    def __init__(self, folder: Path) -> None:
        self.master = RedisServer(folder / "master")
        self.replica = RedisServer(folder / "replica", "--replicaof", "127.0.0.1", str(self.master.port))
        self.ports = [free_port() for _ in range(3)]
        self._sentinels = [self._start(folder, port) for port in self.ports]
        with self.replica.client() as client:
            until(lambda: client.info("replication")["master_link_status"] == "up")
        for port in self.ports:
            with redis.Redis(port=port) as client:
                until(lambda client=client: self._settled(client))  # type: ignore[misc]

    def _settled(self, client: "redis.Redis") -> bool:
        state = client.sentinel_master(self.service)
        return int(state["num-slaves"]) == 1 and int(state["num-other-sentinels"]) == 2

    def _start(self, folder: Path, port: int) -> "subprocess.Popen[bytes]":
        file = folder / f"sentinel{port}.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor {self.service} 127.0.0.1 {self.master.port} 2\n"
            f"sentinel down-after-milliseconds {self.service} 500\n"
            f"sentinel failover-timeout {self.service} 3000\n"
        )
        command = shutil.which("redis-sentinel") or shutil.which("redis-server")
        assert command is not None
        arguments = [command, str(file)] + ([] if command.endswith("sentinel") else ["--sentinel"])
        return subprocess.Popen(arguments, stdout=subprocess.DEVNULL)

    @property
    def url(self) -> str:
        """For the controller."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{hosts}/{self.service}"

    def close(self) -> None:
        """Ends all of it."""
        for sentinel in self._sentinels:
            sentinel.kill()
            sentinel.wait()
        for server in (self.master, self.replica):
            server.kill()


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """A certificate authority, and a certificate for 127.0.0.1 with its key, made by openssl."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, ca_key, cert, key, request = (folder / name for name in ("ca.pem", "ca.key", "redis.pem", "redis.key", "csr"))
    extensions = folder / "san.txt"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")

    def openssl(*arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", "/CN=test ca",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
            "-keyout", ca_key, "-out", ca)  # fmt: skip
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", request)
    openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", 2,
            "-extfile", extensions, "-out", cert)  # fmt: skip
    return ca, cert, key
