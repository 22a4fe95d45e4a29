"""axe-core finds nothing serious on any view, in either theme."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.components.controller import Controller
from tests.server.page.browser import Visit, visiting

VIEWS = {
    "list": ("#/", "tbody", "resnet18"),
    "run": ("#/vision/resnet18", ".in-sight", "60 decisions in sight"),
    "compare": ("#/compare?run=vision/resnet18&run=vision/vgg11", "h1", "Compare 2 runs"),
    "nothing": ("#/?text=nothing-fits-this", ".empty", "No run fits"),
    "refused": ("#/vision/nothing", "[role=alert]", "No such run"),
}
SERIOUS = ("serious", "critical")


def serious(visit: Visit) -> list[str]:
    """Each finding in a line, with where it is."""
    found = Axe().run(visit.page).response["violations"]
    return [
        f"{finding['id']}: {finding['help']}: {[node['html'][:160] for node in finding['nodes']][:4]}"
        for finding in found
        if finding["impact"] in SERIOUS
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_nothing_serious_on_a_view(browser: Browser, served: Controller, view: str, scheme: str) -> None:
    fragment, selector, text = VIEWS[view]
    with visiting(browser, served.url, color_scheme=scheme) as visit:
        visit.open(fragment)
        visit.wait_for_text(selector, text)
        assert serious(visit) == []


@pytest.mark.parametrize("dialog", ["key", "help"])
def test_nothing_serious_in_a_dialog(browser: Browser, served: Controller, dialog: str) -> None:
    with visiting(browser, served.url) as visit:
        visit.open("#/vision/resnet18")
        visit.wait_for_text(".in-sight", "60 decisions in sight")
        visit.page.evaluate(f"document.getElementById('{dialog}-dialog').showModal()")
        assert serious(visit) == []
