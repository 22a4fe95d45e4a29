"""No route of the real application is open by oversight."""

from pathlib import Path

import httpx
import pytest

from dcao_server.app import create_app
from dcao_server.security.key_sources import KeyFile
from dcao_server.security.keys import Scope, create_key
from dcao_server.settings import Settings

OPEN = {"/healthz", "/readyz"}
"""Documented routes that everyone may ask; besides them the page, its files and the document itself."""


def filled(path: str) -> str:
    return path.format(project="p", run="r")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = KeyFile(tmp_path / "keys.jsonl")
    file.add(create_key({"p": Scope.READ})[1])
    return Settings(data=tmp_path, api_keys_file=file.path)


async def test_every_documented_route_but_two_refuses_a_stranger(settings: Settings) -> None:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        for path, operations in app.openapi()["paths"].items():
            for method in operations:
                response = await client.request(method, filled(path))
                if path in OPEN:
                    assert response.status_code not in (401, 403), path
                else:
                    assert response.status_code == 401, f"{method} {path}"


async def test_a_reader_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    """With `read`, every method but GET is refused, except on what stores nothing."""
    key, record = create_key({"p": Scope.READ})
    KeyFile(tmp_path / "keys.jsonl").add(record)
    app = create_app(settings)
    headers = {"authorization": f"Bearer {key}"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", headers=headers) as client,
    ):
        for path, operations in app.openapi()["paths"].items():
            for method in set(operations) - {"get"}:
                status = (await client.request(method, filled(path))).status_code
                harmless = path == "/v1/decide" or path.endswith(":replay")
                assert (status == 403) != harmless, f"{method} {path}: {status}"
