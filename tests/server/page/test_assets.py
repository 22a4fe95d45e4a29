"""The page's files: complete, cacheable, from nowhere else, readable in both themes."""

import re
from importlib.resources import files

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from dcao_proto.policy.reasons import ACTIONS, REASONS, REGIMES
from dcao_proto.policy.registry import sentences
from dcao_server.asgi.problems import install_handlers
from dcao_server.page import page_router
from dcao_server.page.routes import assets

STATIC = files("dcao_server.page") / "static"
OWN = [name for name in assets() if not name.startswith(("vendor/", "fonts/")) and name != "reasons.json"]


def text(name: str) -> str:
    return assets()[name][0].decode()


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    install_handlers(app)
    app.include_router(page_router())
    return TestClient(app)


def test_the_page_names_only_files_that_are_served(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = re.findall(r'(?:href|src)="(/[^"#]*)', page.text)
    assert len(named) >= 8
    for path in named:
        assert client.get(path).status_code == 200, path


def test_modules_and_styles_name_only_files_that_are_served(client: TestClient) -> None:
    for name in OWN:
        if name.endswith(".js"):
            for imported in re.findall(r'from "\./([^"]+)"', text(name)):
                assert f"js/{imported}" in assets(), (name, imported)
        for url in re.findall(r'url\("(/[^"]+)"\)', text(name)):
            assert client.get(url).status_code == 200, (name, url)


@pytest.mark.parametrize("name", OWN)
def test_nothing_is_fetched_from_elsewhere_and_nothing_is_inline(name: str) -> None:
    source = text(name)
    links = set(re.findall(r"https?://[^\s\"'`)>]+", source)) - {"http://www.w3.org/2000/svg"}
    assert links == set()
    if name.endswith(".html"):
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son[a-z]+=|\sstyle=", source)
    if name.endswith(".js"):
        assert not re.search(r"\binnerHTML\b|\bouterHTML\b|insertAdjacentHTML|\beval\(|new Function", source)


def test_unchanged_files_are_not_sent_again(client: TestClient) -> None:
    first = client.get("/static/js/main.js")
    assert first.headers["content-type"] == "text/javascript; charset=utf-8"
    again = client.get("/static/js/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/static/../routes.py", "/static/%2e%2e/routes.py", "/static//etc/passwd", "/static/"]
)
def test_nothing_but_the_pages_files_is_served(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "def page_router" not in answer.text


def test_every_reason_has_its_sentence_on_the_page(client: TestClient) -> None:
    words = client.get("/static/reasons.json").json()
    assert words == {"sentences": sentences(), "regimes": REGIMES, "actions": ACTIONS}
    assert words["sentences"].keys() >= REASONS.keys()


@pytest.mark.parametrize("vendored", ["vendor/uplot.LICENSE", "fonts/inter.LICENSE"])
def test_what_others_made_comes_with_its_licence(vendored: str) -> None:
    assert "Copyright" in text(vendored)


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Contrast ratio, WCAG 2.2: 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def themes() -> dict[str, dict[str, str]]:
    css = text("css/theme.css")
    blocks = {"light": css.split(":root {")[1].split("}")[0], "dark": css.split(':root[data-theme="dark"] {')[1]}
    return {name: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for name, block in blocks.items()}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_lines_stand_out_from_what_they_are_on(theme: str) -> None:
    colours = themes()[theme]
    for ink in ("ink", "ink-2", "ink-3"):
        for ground in ("card", "page"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for line in ("blue", "orange", "green", "vermillion", "sky", "purple", "grey"):
        assert contrast(colours[line], colours["card"]) >= 3, line
    for ink, tint in (
        ("good-ink", "good"),
        ("warn-ink", "warn"),
        ("bad-ink", "bad"),
        ("cool-ink", "cool"),
        ("ink-2", "mute"),
    ):
        assert contrast(colours[ink], colours[f"{tint}-tint"]) >= 4.5, (ink, tint)


def test_the_dark_theme_is_one_however_it_was_chosen() -> None:
    css = text("css/theme.css")
    by_system = css.split(':root:not([data-theme="light"]) {')[1].split("}")[0]
    chosen = css.split(':root[data-theme="dark"] {')[1].split("}")[0]
    assert by_system.split() == chosen.split()
