"""The compose test: the stack comes up, trains, survives what is done to it, and goes; each line printed was checked.

Usage: main.py, with the images built and an engine that DOCKER_HOST (or the default socket) reaches. With
DCAO_OWN_ENGINE=1 the engine is the test's own, and the same file is deployed on it as a Swarm too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyone
import live
import swarm
from ask import Controller, Prometheus
from stack import ROOT, CheckError, Stack, docker, expect, image, wait_for

SERVICES = ["proxy", "controller", "redis", "prometheus", "grafana"]


def say(started: float, text: str) -> None:
    """Prints one checked promise and when it was."""
    print(f"[{time.monotonic() - started:5.0f} s] ok: {text}", flush=True)


def available() -> list[str]:
    """The services whose image there is; Grafana's is absent where no registry answers."""
    have = [s for s in SERVICES if docker("image", "ls", "-q", image(s))]
    expect(
        set(SERVICES) - set(have) <= {"grafana"},
        f"expected images of {SERVICES}, got {have}; run images.sh first",
    )
    return have


def check_live(stack: Stack, services: list[str], started: float) -> None:
    """Everything that is checked on Compose, in order."""
    since = time.time()
    controller, prometheus = Controller(stack.proxy, stack.secrets), Prometheus(stack.prometheus)
    stack.compose("up", "-d", "--no-build", *services, *live.WORKERS)
    for service in services:
        count = 2 if service == "controller" else 1
        wait_for(f"{count} healthy {service}", lambda s=service, c=count: stack.healthy(s, c), 120)  # type: ignore[misc]
    say(started, f"up: {', '.join(services)} healthy, controller twice")
    say(started, live.hardened(stack))
    say(started, live.closed(stack))
    say(started, live.training(controller, at_least=2))
    say(started, live.traced(stack))
    seen = live.names_exposed(stack)
    say(started, live.controller_dies(stack, controller))
    say(started, live.redis_dies(stack, controller))
    say(started, live.store_away(stack, controller))
    say(started, live.scaled(stack, prometheus))
    seen = {where: names | seen[where] for where, names in live.names_exposed(stack).items()}
    say(started, live.finished(stack))
    say(started, live.complete(controller))
    say(started, live.recorded(prometheus, seen, since))
    stack.compose("down", "--volumes", "--timeout", "20")
    left = docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={stack.project}")
    expect(not left, f"expected nothing left after down, got {left}")
    say(started, "down: nothing left")


def main() -> int:
    """0 when everything held."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dcao-compose-") as folder:
        secrets = Path(folder) / "secrets"
        subprocess.run(["sh", str(ROOT / "deploy/secrets.sh"), str(secrets)], check=True, stdout=subprocess.DEVNULL)
        stack = Stack(secrets)
        try:
            services = available()
            if "grafana" not in services:
                print("no image of grafana here: the stack runs WITHOUT that one service", flush=True)
            for text in anyone.check(secrets):
                say(started, text)
            check_live(stack, services, started)
            if os.environ.get("DCAO_OWN_ENGINE") == "1":
                for text in swarm.check(secrets, services):
                    say(started, text)
            else:
                print("the engine is not this test's own: it is not made a Swarm, that part is NOT checked", flush=True)
        except (CheckError, OSError) as error:
            print(stack.logs(), f"FAILED after {time.monotonic() - started:.0f} s: {error}", sep="\n", file=sys.stderr)
            return 1
        finally:
            stack.compose("down", "--volumes", "--timeout", "5")
    return 0


if __name__ == "__main__":
    sys.exit(main())
