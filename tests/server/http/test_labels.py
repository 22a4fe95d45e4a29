"""No client can make a label."""

import json
from typing import Any

from fastapi import FastAPI
from httpx import AsyncClient

from dcao_server.metrics.labels import known_counts, policy_label
from dcao_server.store.contract import RunKey
from tests.server.http.asking import RUN, put, records, seen, train


def entry(step: int, decision: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {"observation": seen(step), "decision": {**decision, "step": step, **changed}}


async def test_reasons_and_policies_of_a_journal_are_no_labels(app: FastAPI, client: AsyncClient) -> None:
    await put(client)
    decision = (await train(client, 10))[0]
    decision = {k: v for k, v in decision.items() if k not in ("state", "persisted", "replayed")}
    made = [
        entry(step, decision, version=step // 10, reasons=[f"mine:{step}", "calibrated"], policy=f"mine@{step}")
        for step in range(20, 420, 10)
    ]
    response = await client.post(RUN + "/decisions:backfill", content=json.dumps({"entries": made}))
    assert response.status_code == 415
    response = await client.post(RUN + "/decisions:backfill", json={"entries": made})
    assert response.json()["stored"] == 40, response.text
    text = (await client.get("/metrics/runs")).text
    assert "mine" not in text
    assert 'reason="other"} 40' in text
    assert 'reason="calibrated"} 4' in text
    assert "mine" not in (await client.get("/metrics")).text
    store = app.state.context.store
    (live,) = [run async for run, _ in store.live(0.0, 10)]
    assert live.key == RunKey("vision", "resnet")
    assert not [name for name in live.counts if "mine" in name]
    assert "mine:20" in (await records(client))[1]["decision"]["reasons"], "the history keeps what was applied"


async def test_a_decision_has_not_more_reasons_than_there_are(client: AsyncClient) -> None:
    await put(client)
    decision = (await train(client, 10))[0]
    many = entry(20, decision, reasons=[f"r{i}" for i in range(65)])
    assert (await client.post(RUN + "/decisions:backfill", json={"entries": [many]})).status_code == 422
    long = entry(20, decision, policy="p" * 129)
    assert (await client.post(RUN + "/decisions:backfill", json={"entries": [long]})).status_code == 422


def test_what_an_older_controller_counted_is_other() -> None:
    counts = {"decided": 3, "calibrated": 2, "made-up": 4, "made-up:too": 1}
    assert known_counts(counts, ("decided",)) == {"calibrated": 2, "other": 5}


def test_a_policys_label_is_one_of_the_declared_policy() -> None:
    assert policy_label("paper@1", "paper") == "paper@1"
    for text in ("paper@999999", "paper@x", "paper@01", "paper@0", "linear@1", "paper", "", 'x"y'):
        assert policy_label(text, "paper") == "paper"
    assert policy_label("plug@7", "plug") == "plug"
