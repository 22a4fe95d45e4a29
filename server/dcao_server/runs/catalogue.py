"""All runs, in the replica's memory, so that a list can be searched and sorted by what no store has an index of.

It is read from the store a few runs at a time when somebody first asks for a list, and from then on only what has
changed: nothing is read while nobody looks. What it says of a run may be some seconds old, so it only chooses which
runs are shown and in what order; those are read from the store again.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool

from dcao_proto import Record, RunAbout, RunList, RunSpec, RunSummary
from dcao_proto.listing import RunGroup, RunOrder
from dcao_proto.run import RunStatus
from dcao_server.ending import end
from dcao_server.history.codec import decoded
from dcao_server.metrics import Metrics
from dcao_server.runs.readable import readable_about, readable_spec
from dcao_server.security.keys import ApiKey, Scope
from dcao_server.store.contract import HistoryStore, RunKey, Seen, StoredRun
from dcao_server.turns import Turn

MOST_RUNS = 100_000
"""Held: some 100 MB. Of more the ones that changed last."""
REFRESH_SECONDS = 2.0
"""Between two looks at what has changed."""
OVERLAP_SECONDS = 30.0
"""Looked at again: replicas' clocks differ, and they tell the indexes a second or two later."""
FORGET_SECONDS = 1800.0
"""After which everything is read anew, since the store remembers changes for an hour; see `keys.TOUCHED_SECONDS`."""
PATIENCE_SECONDS = 0.3
"""For which a request waits for the look at what has changed; after that it is answered from what is known."""
AT_ONCE = 8
LIVE: frozenset[RunStatus] = frozenset({"created", "active", "stale"})


class Row(NamedTuple):
    """One run: as stored, without its long texts, and what a list shows of it."""

    run: StoredRun
    spec: RunSpec
    record: Record | None
    text: str
    """What is searched: names, values and labels in small letters."""


class Query(NamedTuple):
    """Which runs, in what order, from where on."""

    text: str = ""
    project: str | None = None
    status: RunGroup | None = None
    policy: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    order: RunOrder = "updated"
    ascending: bool = False
    offset: int = 0
    limit: int = 50


class Catalogue:
    """Lists runs of all projects.

    Args:
        store: where they are.
        metrics: times the calls to it.
        status: of a stored run as of now.
    """

    def __init__(self, store: HistoryStore, metrics: Metrics, status: Callable[[StoredRun], RunStatus]) -> None:
        self._store = store
        self._metrics = metrics
        self._status = status
        self._rows: dict[RunKey, Row] = {}
        self._read_at: float | None = None
        self._looked = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Ends what is being read."""
        await end(self._task)

    async def list(self, query: Query, caller: ApiKey | None) -> RunList:
        """The runs that fit and that a key may read.

        Raises:
            StoreUnavailableError: the store cannot be asked now.
        """
        await self._refreshed()
        rows = list(self._rows.values())
        keys, total = await run_in_threadpool(_chosen, rows, query, caller, self._status)
        with self._metrics.store_call("look"):
            found = await self._store.look(keys)
        shown = []
        turn = Turn()
        for key in keys:
            if key in found:
                row = self._keep(key, found[key])
                shown.append(_summary(row, self._status(row.run)))
                await turn.breathe()
        complete = self._read_at is not None and len(self._rows) < MOST_RUNS
        return RunList(runs=tuple(shown), total=total, complete=complete)

    async def _refreshed(self) -> None:
        if self._task is None and time.monotonic() - self._looked > REFRESH_SECONDS:
            self._task = asyncio.create_task(self._refresh(), name="catalogue")
        task = self._task
        if task is not None:
            await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
            if task.done():
                self._task = None
                task.result()

    async def _refresh(self) -> None:
        began = time.time()
        everything = self._read_at is None or not 0 <= began - self._read_at < FORGET_SECONDS
        since = None if everything or self._read_at is None else self._read_at - OVERLAP_SECONDS
        seen: set[RunKey] = set()
        turn = Turn()
        async for some in self._store.changed(since):
            new = [key for key in dict.fromkeys(some) if key not in seen][: MOST_RUNS - len(seen)]
            seen.update(new)
            for begin in range(0, len(new), AT_ONCE):
                few = new[begin : begin + AT_ONCE]
                with self._metrics.store_call("look"):
                    found = await self._store.look(few)
                for key in few:
                    if key in found:
                        self._keep(key, found[key])
                    else:
                        self._rows.pop(key, None)
                    await turn.breathe()
            if len(seen) >= MOST_RUNS:
                break
        if everything:
            self._rows = {key: row for key, row in self._rows.items() if key in seen}
        self._read_at, self._looked = began, time.monotonic()

    def _keep(self, key: RunKey, found: Seen) -> Row:
        run, newest = found
        records = decoded(newest)
        measured = [record for record in records if record.observation.rho is not None]
        known = self._rows.get(key)
        same = known is not None and known.run.digest == run.digest
        spec = known.spec if known is not None and same else readable_spec(run.spec)
        text = _text(key, spec, readable_about(run.about))
        row = Row(run._replace(spec="", state="", counts={}), spec, next(iter([*measured, *records]), None), text)
        if known is not None or len(self._rows) < MOST_RUNS:
            self._rows[key] = row
        return row


def _text(key: RunKey, spec: RunSpec, about: RunAbout | None) -> str:
    labels = (f"{name}={value} {name} {value}" for name, value in spec.labels.items())
    written = [] if about is None else [about.title or "", about.note or "", *about.tags]
    return " ".join(
        [*written, key.project, key.run, spec.optimizer, spec.policy.name, spec.trust or "", *labels]
    ).lower()


def _chosen(
    rows: Iterable[Row], query: Query, caller: ApiKey | None, status: Callable[[StoredRun], RunStatus]
) -> tuple[Sequence[RunKey], int]:
    """The runs of the page, and how many fit. In a thread: 100,000 rows take a tenth of a second."""
    readable: dict[str, bool] = {}
    words = query.text.lower().split()
    fitting: list[tuple[Row, RunStatus]] = []
    for row in rows:
        project = row.run.key.project
        if project not in readable:
            readable[project] = caller is None or caller.scope_in(project) >= Scope.READ
        if not readable[project] or query.project not in (None, project):
            continue
        if query.policy not in (None, row.spec.policy.name):
            continue
        if any(row.spec.labels.get(name) != value for name, value in query.labels):
            continue
        now = status(row.run)
        if not _in_group(now, query.status) or not all(word in row.text or word == now for word in words):
            continue
        fitting.append((row, now))
    ordered = _ordered(fitting, query)
    return [row.run.key for row, _ in ordered[query.offset : query.offset + query.limit]], len(fitting)


def _in_group(status: RunStatus, group: RunGroup | None) -> bool:
    if group in ("live", "ended"):
        return (status in LIVE) == (group == "live")
    return group in (None, status)


def _ordered(rows: list[tuple[Row, RunStatus]], query: Query) -> list[tuple[Row, RunStatus]]:
    """Sorted; what lacks the value comes last either way, the newest first among equals."""
    rows = sorted(rows, key=lambda pair: (-pair[0].run.updated_at, pair[0].run.key))
    keyed = [(_value(*pair, query.order), pair) for pair in rows]
    there = [(value, pair) for value, pair in keyed if value is not None]
    there.sort(key=lambda entry: entry[0], reverse=not query.ascending)
    return [pair for _, pair in there] + [pair for value, pair in keyed if value is None]


def _value(row: Row, status: RunStatus, order: RunOrder) -> tuple[object, ...] | None:
    run, record = row.run, row.record
    value: object
    match order:
        case "updated":  # live runs before ended ones
            return (status in LIVE, run.updated_at)
        case "created":
            value = run.created_at
        case "name":
            return (run.key.run, run.key.project)
        case "status":
            value = status
        case "policy":
            value = row.spec.policy.name
        case "step":
            value = run.last_step
        case "edge":
            value = None if record is None else record.decision.edge_ratio
        case "sharpness":
            value = None if record is None else record.observation.rho
        case "lr":
            value = None if record is None else record.decision.lr
        case "loss":
            value = None if record is None else record.observation.loss
    return None if value is None else (value,)


def _summary(row: Row, status: RunStatus) -> RunSummary:
    run, spec, record = row.run, row.spec, row.record
    about = readable_about(run.about) or RunAbout()
    return RunSummary(
        project=run.key.project,
        run=run.key.run,
        status=status,
        attempt=run.attempt,
        optimizer=spec.optimizer,
        policy=spec.policy.name,
        trust=spec.trust,
        labels=spec.labels,
        title=about.title,
        tags=about.tags,
        created_at=run.created_at,
        updated_at=run.updated_at,
        last_step=run.last_step,
        regime=None if record is None else record.decision.regime,
        edge_ratio=None if record is None else record.decision.edge_ratio,
        sharpness=None if record is None else record.observation.rho,
        lr=None if record is None else record.decision.lr,
        loss=None if record is None else record.observation.loss,
    )
