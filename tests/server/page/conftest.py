"""One browser and one controller with runs, for all tests of the page that do not kill anything."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.components.controller import Controller
from tests.components.worker import Worker
from tests.server.page.browser import Visit, chromium, visiting


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    """A controller with three runs in two projects: one at its edge, one young, one that has ended."""
    controller = Controller(tmp_path_factory.mktemp("page"))
    edge = Worker(controller.url, "vision", "resnet18", policy={"name": "edge"}, labels={"model": "resnet18"})
    young = Worker(controller.url, "vision", "vgg11")
    ended = Worker(controller.url, "language", "gpt", optimizer="adamw")
    for _ in range(60):
        edge.observe()
    for _ in range(3):
        young.observe()
        ended.observe()
    ended.finish()
    yield controller
    controller.kill()


@pytest.fixture
def visit(browser: Browser, served: Controller) -> Iterator[Visit]:
    with visiting(browser, served.url) as visit:
        yield visit
