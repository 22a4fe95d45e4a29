"""A page of somebody else, open in a browser on the machine of a controller that asks nobody for a key."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page

from tests.components.controller import Controller
from tests.components.worker import Worker
from tests.server.page.browser import chromium, visiting

EVIL = "evil.example"
RUN = "/v1/projects/vision/runs/victim"
BLANK = "<!doctype html><title>kittens</title>"


@pytest.fixture(scope="module")
def fooled() -> Iterator[Browser]:
    """A browser whose name server says that the attacker's name is this machine's, as in DNS rebinding."""
    # Newer versions ask the user before a page may reach this machine; older ones, and other browsers, do not.
    old = "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests"
    with chromium(f"--host-resolver-rules=MAP {EVIL} 127.0.0.1", old) as browser:
        yield browser


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Controller]:
    controller = Controller(tmp_path_factory.mktemp("attacked"))
    worker = Worker(controller.url, "vision", "victim")
    for _ in range(3):
        worker.observe()
    yield controller
    controller.kill()


def status(controller: Controller) -> str:
    return str(httpx.get(controller.url + RUN).json()["status"])


def at(page: Page, origin: str) -> None:
    """Shows the attacker's page at an origin; everything else of the origin goes to whoever listens there."""
    page.route(f"{origin}/kittens", lambda route: route.fulfill(body=BLANK, content_type="text/html"))
    page.goto(f"{origin}/kittens")


@pytest.mark.parametrize("what", [":finish", ":fail", "/attempts"])
@pytest.mark.parametrize("body", ["null", "'{}'"], ids=["no body", "a text"])
def test_a_page_of_another_origin_changes_nothing_by_a_request_that_needs_no_leave(
    fooled: Browser, controller: Controller, what: str, body: str
) -> None:
    with visiting(fooled, "") as visit:
        at(visit.page, f"http://{EVIL}:9999")
        visit.page.evaluate(
            f"fetch('{controller.url}{RUN}{what}', {{method: 'POST', mode: 'no-cors', body: {body}}}).catch(() => 0)"
        )
    assert status(controller) in ("created", "active")


def test_a_form_of_another_page_changes_nothing(fooled: Browser, controller: Controller) -> None:
    with visiting(fooled, "") as visit:
        at(visit.page, f"http://{EVIL}:9999")
        visit.page.evaluate(
            f"document.body.innerHTML = '<form method=post action=\"{controller.url}{RUN}:finish\"></form>'"
        )
        with visit.page.expect_navigation():
            visit.page.evaluate("document.forms[0].submit()")
        assert "another page" in visit.page.content()
    assert status(controller) in ("created", "active")


def test_a_name_that_was_rebound_to_this_machine_reads_and_deletes_nothing(
    fooled: Browser, controller: Controller
) -> None:
    port = controller.url.rpartition(":")[2]
    with visiting(fooled, "") as visit:
        at(visit.page, f"http://{EVIL}:{port}")
        asked = visit.page.evaluate(
            f"""Promise.all([['GET', '/v1/projects'], ['GET', '{RUN}'], ['DELETE', '{RUN}'], ['POST', '{RUN}:finish'],
                ['GET', '/metrics/runs']].map(([method, path]) => fetch(path, {{method}}).then(r => r.status)))"""
        )
    assert asked == [403] * 5
    assert status(controller) in ("created", "active")


def test_the_controllers_own_page_may(fooled: Browser, controller: Controller) -> None:
    with visiting(fooled, controller.url) as visit:
        visit.open()
        put = f"fetch('{RUN}x:finish', {{method: 'POST'}}).then(r => r.status)"
        assert visit.page.evaluate(put) == 404, "it came in, and there is no such run"
