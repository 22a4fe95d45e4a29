"""Whatever goes wrong, the answer is a problem document that names the request and tells nothing else."""

from pathlib import Path

import httpx
import pytest

from dcao_proto.problem import PROBLEM_MEDIA_TYPE, ProblemDetails
from dcao_server.settings import Settings
from tests.server.asgi.conftest import Lines
from tests.server.asgi.small_app import DECISIONS, client_of, small_app

JSON = {"content-type": "application/json"}


def problem(response: httpx.Response, status: int, slug: str) -> ProblemDetails:
    """The answer's document; fails unless it is one, of this kind, that names the request."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM_MEDIA_TYPE
    document = ProblemDetails.model_validate_json(response.content)
    assert (document.status, document.type.rsplit("/", 1)[1]) == (status, slug)
    assert document.instance == response.headers["x-request-id"]
    return document


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, body_limit=2048, backfill_body_limit=4096)


async def test_unknown_path_is_not_found(settings: Settings) -> None:
    async with client_of(small_app(settings)) as client:
        assert "GET /v2" in problem(await client.get("/v2"), 404, "not-found").detail


async def test_another_spelling_of_a_path_is_not_redirected(settings: Settings) -> None:
    async with client_of(small_app(settings)) as client:
        problem(await client.get("/healthz/"), 404, "not-found")


async def test_wrong_method_names_every_method_of_the_path(settings: Settings) -> None:
    async with client_of(small_app(settings)) as client:
        response = await client.patch(DECISIONS, headers=JSON, content="{}")
        problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == "GET, POST"


async def test_a_failure_says_where_to_look_and_shows_no_trace(settings: Settings, logs: Lines) -> None:
    async with client_of(small_app(settings)) as client:
        response = await client.get("/boom")
    document = problem(response, 500, "internal")
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    assert document.retryable
    assert "a secret that must not leave" in str(logs("dcao_server.asgi.envelope")), (
        "the log has what the answer has not"
    )


async def test_a_raised_problem_keeps_its_headers(settings: Settings) -> None:
    async with client_of(small_app(settings)) as client:
        response = await client.get("/refused")
        problem(response, 503, "store-unavailable")
        assert response.headers["retry-after"] == "1"


async def test_a_body_that_does_not_fit_names_the_field_and_not_its_value(settings: Settings) -> None:
    async with client_of(small_app(settings)) as client:
        response = await client.post(DECISIONS, headers=JSON, content='{"rho": NaN}')
        document = problem(response, 422, "invalid")
        assert document.errors is not None
        assert document.errors[0].loc == ("body", "rho")
        assert "nan" not in response.text.lower()


async def test_a_body_that_is_not_json_is_malformed(settings: Settings) -> None:
    async with client_of(small_app(settings)) as client:
        problem(await client.post(DECISIONS, headers=JSON, content="{rho: 1"), 400, "malformed")


async def test_a_deeply_nested_body_is_malformed(settings: Settings) -> None:
    deep = Settings(data=settings.data, body_limit=1_000_000)
    async with client_of(small_app(deep)) as client:
        response = await client.post(DECISIONS, headers=JSON, content="[" * 2_000)
        assert response.status_code == 400
        assert response.headers["content-type"] == PROBLEM_MEDIA_TYPE


@pytest.mark.parametrize("media", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_a_body_of_another_media_type_is_refused(settings: Settings, media: str | None) -> None:
    headers = {} if media is None else {"content-type": media}
    async with client_of(small_app(settings)) as client:
        document = problem(
            await client.post(DECISIONS, headers=headers, content='{"rho": 1}'), 415, "unsupported-media"
        )
        assert "Content-Type: application/json" in document.detail


async def test_parameters_of_the_media_type_do_not_matter(settings: Settings) -> None:
    async with client_of(small_app(settings)) as client:
        headers = {"content-type": "Application/JSON; charset=utf-8"}
        assert (await client.post(DECISIONS, headers=headers, content='{"rho": 1}')).status_code == 200


async def test_too_large_a_body_is_refused_by_its_length(settings: Settings) -> None:
    async with client_of(small_app(settings)) as client:
        document = problem(await client.post(DECISIONS, headers=JSON, content=b" " * 2049), 413, "too-large")
        assert "2048" in document.detail
        assert (await client.post(DECISIONS, headers=JSON, content=b'{"rho": 1}' + b" " * 2038)).status_code == 200


async def test_too_large_a_body_of_unsaid_length_is_refused_while_it_comes(settings: Settings) -> None:
    async def chunks():  # type: ignore[no-untyped-def]
        for _ in range(5):
            yield b" " * 512

    async with client_of(small_app(settings)) as client:
        problem(await client.put("/v1/projects/p/runs/r", headers=JSON, content=chunks()), 413, "too-large")


async def test_a_backfill_may_be_larger(settings: Settings) -> None:
    async with client_of(small_app(settings)) as client:
        path = DECISIONS + ":backfill"
        assert (await client.post(path, headers=JSON, content=b" " * 4096)).json() == 4096
        problem(await client.post(path, headers=JSON, content=b" " * 4097), 413, "too-large")
