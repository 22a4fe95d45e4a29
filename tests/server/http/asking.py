"""Short ways to ask a controller."""

from typing import Any

from httpx import AsyncClient, Response

RUN = "/v1/projects/vision/runs/resnet"
SPEC: dict[str, Any] = {
    "optimizer": "sgd",
    "base": {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
    "policy": {"name": "paper", "params": {"alpha": 0.1, "rho_ref": 20.0, "kappa": 0.2, "gamma_ref": 5.0, "mu": 0.5}},
}


def seen(step: int, after: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """An observation; echoes the decision it comes after."""
    echo = {"state": after["state"], "version": after["version"], "attempt": after["attempt"]} if after else {}
    return {"step": step, "rho": 12.0 + step / 7, "gamma": 4.0 + step / 11, **echo, **fields}


async def put(client: AsyncClient, spec: dict[str, Any] = SPEC, run: str = RUN) -> None:
    """Creates a run."""
    response = await client.put(run, json=spec)
    assert response.status_code in (200, 201), response.text


async def post(client: AsyncClient, observation: dict[str, Any], run: str = RUN) -> Response:
    """Posts an observation."""
    return await client.post(run + "/decisions", json=observation)


async def decide(client: AsyncClient, observation: dict[str, Any], run: str = RUN) -> dict[str, Any]:
    """The decision of an observation that is fine."""
    response = await post(client, observation, run)
    assert response.status_code == 200, response.text
    decision: dict[str, Any] = response.json()
    return decision


async def train(
    client: AsyncClient, *steps: int, run: str = RUN, after: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The decisions of a worker that echoes each in the next."""
    decisions: list[dict[str, Any]] = []
    for step in steps:
        after = await decide(client, seen(step, after), run)
        decisions.append(after)
    return decisions


async def records(client: AsyncClient, run: str = RUN) -> list[dict[str, Any]]:
    """The whole history."""
    response = await client.get(run + "/decisions")
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["records"]
    return found


def problem(response: Response, status: int, slug: str) -> dict[str, Any]:
    """The problem document of a refusal."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["type"] == f"https://dcao.dev/problems/{slug}"
    assert document["status"] == status
    return document
