"""Makes the pictures of docs/images: `make screenshots`.

Three small networks train on real images under a real controller; a real Prometheus scrapes it. Meanwhile a real
Chromium photographs the run page, and the dashboards' panels are drawn from what Prometheus answers.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import Browser
from tests.components.controller import Controller
from tests.components.prometheus_server import PrometheusServer
from tests.server.page.browser import chromium, visiting

from scripts.render_dashboard import render

ROOT = Path(__file__).resolve().parents[1]
RUNS = {"mlp-edge": "edge", "mlp-paper": "paper", "mlp-constant": "constant"}
PROJECT = "digits"
SHOWN = "mlp-edge"
VIEWS = {
    "page-list": ("#/", {"color_scheme": "light", "viewport": {"width": 1280, "height": 460}}),
    "page-light": (f"#/{PROJECT}/{SHOWN}", {"color_scheme": "light", "viewport": {"width": 1280, "height": 1560}}),
    "page-dark": (f"#/{PROJECT}/{SHOWN}", {"color_scheme": "dark", "viewport": {"width": 1280, "height": 1560}}),
    "page-narrow": (f"#/{PROJECT}/{SHOWN}", {"color_scheme": "light", "viewport": {"width": 390, "height": 1500}}),
}


@contextmanager
def training(url: str, run: str, policy: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that trains."""
    environ = {**os.environ, "DCAO_URL": url, "DCAO_PROJECT": PROJECT, "DCAO_RUN": run}
    worker = subprocess.Popen([sys.executable, "-m", "scripts.edge_worker", policy], env=environ)  # noqa: S603  (our own)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def photograph(browser: Browser, url: str, out: Path) -> None:
    """Every view, and a complaint if the browser had one."""
    for name, (fragment, options) in VIEWS.items():
        with visiting(browser, url, device_scale_factor=1, **options) as visit:
            visit.open(fragment)
            visit.wait_for_text("main", SHOWN)
            visit.page.wait_for_timeout(1500)
            visit.page.screenshot(path=out / f"{name}.png")
            assert visit.errors == [], visit.errors  # noqa: S101
        print(f"{out / name}.png")


def dashboards(prometheus: PrometheusServer, began: float, out: Path) -> None:
    """The pictures of the dashboards, over all the time that there is."""
    now = time.time()
    step = max(1.0, (now - began) / 300)
    values = {"$__rate_interval": "15s", "$__range": f"{int(now - began)}s", "$project": PROJECT, "$instance": ".+"}

    for name, runs in (("dcao-run", SHOWN), ("dcao-fleet", ".+"), ("dcao-service", ".+")):

        def fill(expr: str, runs: str = runs) -> str:
            for variable, value in {**values, "$run": runs}.items():
                expr = expr.replace(variable, value)
            return expr

        picture = out / f"grafana-{name.removeprefix('dcao-')}.png"
        empty = render(
            ROOT / "deploy" / "grafana" / "dashboards" / f"{name}.json",
            lambda expr: prometheus.query_range(expr, began, now, step),
            fill,
            began,
            picture,
        )
        print(picture, f"(without data: {', '.join(empty)})" if empty else "")


def main() -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=75, help="training before the pictures are taken")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        controller = Controller(Path(folder) / "controller")
        stack.callback(controller.kill)
        prometheus = PrometheusServer(Path(folder) / "prometheus", [controller.url.removeprefix("http://")])
        stack.callback(prometheus.kill)
        for run, policy in RUNS.items():
            stack.enter_context(training(controller.url, run, policy))
        began = time.time() + 10
        time.sleep(10 + arguments.seconds)
        with chromium() as browser:
            photograph(browser, controller.url, arguments.out)
        dashboards(prometheus, began, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
