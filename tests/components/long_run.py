"""Long histories and long lists, put into a store before a controller serves it: the wire would take minutes."""

import asyncio
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dcao_proto import Observation, RunSpec
from dcao_proto.policy import PolicyState
from dcao_server.history.codec import encode
from dcao_server.runs.identity import bound, digest_of
from dcao_server.settings import Settings
from dcao_server.store import create_store
from dcao_server.store.contract import Backfill, Creation, HistoryStore, RunKey

SPEC = {"optimizer": "sgd", "base": {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}}
AT_ONCE = 1000
PROBE = {"matvecs": 8, "seconds": 0.3, "overhead": 0.03, "examples": 128, "fingerprint": "current:128"}


def fill(folder: Path, *, runs: int = 0, decisions: int = 0, spike: int | None = None, url: str | None = None) -> None:
    """Puts runs `many/run00000`… with one decision each, and a run `long/run` with many, into an empty store.

    Args:
        folder: of the controller's data.
        runs, decisions: how many.
        spike: step of the long run at which the sharpness is a hundred times its own.
        url: of a Redis to be filled instead.
    """

    async def work() -> None:
        settings = Settings(data=folder) if url is None else Settings(redis_url=url, redis_timeout_seconds=60.0)
        store = create_store(settings)
        await store.open()
        try:
            for begin in range(0, runs, 100):
                some = range(begin, min(begin + 100, runs))
                await asyncio.gather(*(_run(store, index) for index in some))
            if decisions:
                await _long(store, decisions, spike)
        finally:
            await store.close()

    with ThreadPoolExecutor(1) as thread:  # Playwright's own event loop is in this one
        thread.submit(lambda: asyncio.run(work())).result()


async def _create(store: HistoryStore, key: RunKey, now: float, **spec: object) -> str:
    policy = bound(RunSpec.model_validate({**SPEC, **spec}))
    digest = digest_of(policy.spec_segment)
    await store.create(key, Creation(policy.spec_segment, digest, policy.initial_token(), now))
    return digest


def _payload(step: int, rho: float, **spec: object) -> bytes:
    seen = {"step": step, "rho": rho, "gamma": 0.3 * rho, "loss": 0.2 + math.exp(-step / 1e4), "probe": PROBE}
    observation = Observation.model_validate({**seen, "batch_sharpness": 0.6 * rho, "grad_norm": 0.5})
    decision = bound(RunSpec.model_validate({**SPEC, **spec})).decide(observation, PolicyState(), 0)
    return encode(observation, decision, 1000.0 + step)


async def _run(store: HistoryStore, index: int) -> None:
    key = RunKey("many", f"run{index:05}")
    labels = {"model": f"net{index % 7}", "seed": str(index % 10)}
    digest = await _create(store, key, 1000.0 + index, labels=labels)
    entry = ((100, _payload(100, 1.0 + index % 50, labels=labels)),)
    await store.backfill(key, Backfill(1, digest, entry, 1, "s", 2000.0 + index))
    if index % 2:
        await store.end(key, "finished", None, 3000.0 + index)


async def _long(store: HistoryStore, decisions: int, spike: int | None) -> None:
    key = RunKey("long", "run")
    digest = await _create(store, key, 1000.0)
    usual = [_payload(step, 10.0 + 3 * math.sin(step / 7)) for step in range(100)]
    for begin in range(0, decisions, AT_ONCE):
        steps = range(begin, min(begin + AT_ONCE, decisions))
        entries = tuple((step, _payload(step, 1000.0) if step == spike else usual[step % 100]) for step in steps)
        await store.backfill(key, Backfill(1, digest, entries, entries[-1][0] + 1, "s", 2000.0))
