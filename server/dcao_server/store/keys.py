"""Every key in Redis, its lifetime and its cap, with the reason. Nothing else in the code spells a key.

All keys of one run share the hash tag `{project/run}`, so that Redis Cluster keeps them on one node and one script may
touch them together. Index keys are in other slots, so no script touches them; they can be rebuilt (`prune`).

| key | type | holds | lifetime |
|---|---|---|---|
| `dcao:1:{p/r}:meta` | hash | specification, state, version, attempt, status | retention after the last write |
| `dcao:1:{p/r}:h:<attempt>` | stream | one entry per decision, ID `<step>-1` | retention after its last write |
| `dcao:1:{p/r}:g:<attempt>:<step>` | hash | observations of workers until the decision | `GATHER_SECONDS` |
| `dcao:1:{p/r}:n` | hash | how often each outcome and reason occurred | retention after the last write |
| `dcao:1:idx:{p}:runs` | sorted set | run → seconds of creation | removed by `gc` |
| `dcao:1:idx:{p}:active` | sorted set | run → seconds of the last observation | removed by `gc` |
| `dcao:1:idx:{p}:touched` | sorted set | run → seconds of its last change but a decision | `TOUCHED_SECONDS` |
| `dcao:1:idx:projects` | sorted set | projects, all at 0, so that they are in order of name | removed by `gc` |
| `dcao:1:{ready}:a`, `:b` | hash, stream | nothing; show that what a decision does works | `PROBE_SECONDS`; none |

Fields of `meta` are one to six letters because every decision sends their names: `spec` encoded specification, `dg` its
digest, `a` attempt, `v` version, `last` newest step of the attempt, `st` state token, `hb` last write, `born` creation,
`status`, `reason`, `atts` starts of the attempts as `attempt:version:step,…`, `as` and `av` the state and version that
the current attempt started from, `about` what people wrote about it, `gone` on a tombstone.
"""

from dcao_server.store.contract import RunKey

PREFIX = "dcao:1"
"""1 is the version of this layout: a controller with another layout cannot misread it."""

PROJECTS = f"{PREFIX}:idx:projects"

PROBES = (f"{PREFIX}:{{ready}}:a", f"{PREFIX}:{{ready}}:b")
"""Written by readiness checks; hold nothing. A name with a slash is a run's, so neither can be one."""

PROBE_SECONDS = 60

TOMBSTONE_SECONDS = 86_400
"""A deleted run is remembered for a day, so that a worker that still echoes its token does not bring it back."""

TOUCHED_SECONDS = 3600
"""For which it is remembered that a run was created, ended, restarted or deleted; who looks less often looks at all."""

GATHER_SECONDS = 120
"""Beyond the quorum time; after that a straggler's observation starts a new gathering or finds the decision."""

MAX_REWRITE = 10_000
"""Newer records that a backfill may have to lift to put older ones below them: 25 ms in which Redis serves nobody."""


def meta(key: RunKey) -> str:
    """The hash of a run."""
    return f"{PREFIX}:{{{key.project}/{key.run}}}:meta"


def history(key: RunKey, attempt: int | str) -> str:
    """The stream of one attempt."""
    return f"{PREFIX}:{{{key.project}/{key.run}}}:h:{attempt}"


def gathering(key: RunKey, attempt: int, step: int) -> str:
    """The observations of one step's workers."""
    return f"{PREFIX}:{{{key.project}/{key.run}}}:g:{attempt}:{step}"


def counts(key: RunKey) -> str:
    """How often each outcome and reason occurred in a run."""
    return f"{PREFIX}:{{{key.project}/{key.run}}}:n"


def runs_index(project: str) -> str:
    """Runs of a project by creation."""
    return f"{PREFIX}:idx:{{{project}}}:runs"


def active_index(project: str) -> str:
    """Runs of a project by last observation."""
    return f"{PREFIX}:idx:{{{project}}}:active"


def touched_index(project: str) -> str:
    """Runs of a project by their last change that was no decision."""
    return f"{PREFIX}:idx:{{{project}}}:touched"
