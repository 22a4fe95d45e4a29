"""A client's journal: stored as applied, once, in its place, and checked."""

from typing import Any

import pytest
from httpx import AsyncClient, Response

from dcao_proto import Decision, Observation, RunSpec
from dcao_proto.policy import bind
from tests.server.http.asking import RUN, SPEC, decide, problem, put, records, seen, train

POLICY = bind(RunSpec.model_validate(SPEC))


def offline(after: dict[str, Any] | None, *steps: int, attempt: int = 1) -> list[dict[str, Any]]:
    """The journal of a client that goes on alone."""
    entries = []
    for step in steps:
        observation = Observation.model_validate(seen(step, after) | {"attempt": attempt})
        after = POLICY.decide_from_token(observation).wire()
        entries.append({"observation": observation.wire(), "decision": after})
    return entries


async def backfill(client: AsyncClient, entries: list[dict[str, Any]], run: str = RUN) -> Response:
    return await client.post(run + "/decisions:backfill", json={"entries": entries})


async def test_a_run_with_an_outage_has_the_history_of_one_without(client: AsyncClient) -> None:
    await put(client)
    await put(client, run=RUN + "-undisturbed")
    steps = list(range(0, 200, 10))
    undisturbed = await train(client, *steps, run=RUN + "-undisturbed")
    before = await train(client, *steps[:5])
    journal = offline(before[-1], *steps[5:12])
    for entry in journal:
        del entry["decision"]["causes"]
    after = await train(client, *steps[12:], after=journal[-1]["decision"])
    result = (await backfill(client, journal)).json()
    assert result == {"stored": 7, "replayed": 0, "fenced": 0, "deviating": [], "version": 20, "last_step": 190}
    assert (await backfill(client, journal)).json() == result | {"stored": 0, "replayed": 7}
    history = await records(client)
    assert [r["step"] for r in history] == steps
    assert [r["origin"] for r in history] == ["online"] * 5 + ["backfill"] * 7 + ["online"] * 8

    def bare(decisions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in d.items() if k not in ("state", "persisted")} for d in decisions]

    assert bare([r["decision"] for r in history]) == bare(undisturbed)  # with their causes, which no journal carries
    assert all(r["decision"]["causes"] for r in history)
    assert after[-1]["state"] == undisturbed[-1]["state"]


async def test_what_the_client_applied_is_stored_and_a_deviation_is_marked(client: AsyncClient) -> None:
    await put(client)
    journal = offline(None, 0, 10, 20)
    journal[1]["decision"]["lr"] = 0.123
    result = (await backfill(client, journal)).json()
    assert (result["stored"], result["deviating"]) == (3, [10])
    history = await records(client)
    assert [r["deviates"] for r in history] == [False, True, False]
    assert history[1]["decision"]["lr"] == 0.123


async def test_a_journal_without_tokens_is_checked_from_entry_to_entry(client: AsyncClient) -> None:
    await put(client)
    journal = offline(None, 0, 10, 20)
    for entry in journal:
        entry["observation"].pop("state", None)
        entry["observation"].pop("version", None)
        entry["decision"].pop("state")
    assert (await backfill(client, journal)).json()["deviating"] == []
    following = await decide(client, seen(30))
    assert following["version"] == 4


async def test_the_state_after_a_backfill_is_the_clients(client: AsyncClient) -> None:
    await put(client)
    journal = offline(None, 0, 10)
    await backfill(client, journal)
    following = await decide(client, seen(20))  # echoes nothing
    own = POLICY.decide_from_token(Observation.model_validate(seen(20, journal[-1]["decision"])))
    assert Decision.model_validate(following) == own.model_copy(update={"persisted": True})


async def test_an_older_attempt_is_fenced_and_the_newer_one_of_the_same_journal_is_stored(client: AsyncClient) -> None:
    await put(client)
    await train(client, 0)
    await client.post(RUN + "/attempts", json={})
    first = offline(None, 50)
    second = offline(None, 10, 20, attempt=2)
    result = (await backfill(client, first + second)).json()
    assert (result["stored"], result["fenced"], result["last_step"]) == (2, 1, 20)
    assert (await backfill(client, first)).json() == {
        "stored": 0,
        "replayed": 0,
        "fenced": 1,
        "deviating": [],
        "version": result["version"],
        "last_step": 20,
    }
    assert [(r["attempt"], r["step"]) for r in await records(client)] == [(1, 0), (2, 10), (2, 20)]


async def test_a_lost_run_is_restored_from_its_journal(client: AsyncClient) -> None:
    journal = offline(None, 0, 10, 20)
    assert (await backfill(client, journal[1:])).json()["stored"] == 2
    assert (await backfill(client, journal[:1])).json() == {
        "stored": 1,
        "replayed": 0,
        "fenced": 0,
        "deviating": [],
        "version": 3,
        "last_step": 20,
    }
    assert [r["step"] for r in await records(client)] == [0, 10, 20]


async def test_a_thousand_entries_at_once(client: AsyncClient) -> None:
    await put(client)
    journal = offline(None, *range(1000))
    assert (await backfill(client, journal)).json()["stored"] == 1000
    assert [r["step"] for r in await records(client)] == list(range(1000))
    problem(await backfill(client, [*journal, offline(None, 5000)[0]]), 422, "invalid")


@pytest.mark.parametrize("order", [[1, 0], [0, 0]])
async def test_entries_out_of_order_are_refused(client: AsyncClient, order: list[int]) -> None:
    await put(client)
    journal = offline(None, 0, 10)
    problem(await backfill(client, [journal[i] for i in order]), 422, "invalid")
    assert await records(client) == []


async def test_entries_whose_halves_differ_are_refused(client: AsyncClient) -> None:
    await put(client)
    journal = offline(None, 0, 10)
    mixed = {"observation": journal[0]["observation"], "decision": journal[1]["decision"]}
    problem(await backfill(client, [mixed]), 422, "invalid")


async def test_tokens_of_another_run_are_refused(client: AsyncClient) -> None:
    await put(client, SPEC | {"probe_interval": 5})
    problem(await backfill(client, offline(None, 0)), 422, "invalid-state")
    assert await records(client) == []


async def test_a_journal_without_a_token_cannot_restore_a_run(client: AsyncClient) -> None:
    journal = offline(None, 0)
    journal[0]["decision"].pop("state")
    problem(await backfill(client, journal), 404, "run-not-found")
