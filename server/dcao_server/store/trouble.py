"""Why a store cannot be used, in the words of whoever has to mend it."""

from enum import Enum
from typing import NamedTuple


class TroubleKind(Enum):
    """Label value of the metric, what it means, what to do about it, whether reading may go on meanwhile."""

    UNREACHABLE = (
        "unavailable",
        "the store cannot be reached",
        "see that it runs, that its address is right, and that a port with TLS is asked by rediss://",
        False,
    )
    NAME = (
        "name",
        "the store's host name is not known",
        "correct the host in DCAO_REDIS_URL, or the name service",
        False,
    )
    TIMEOUT = (
        "timeout",
        "the store does not answer in time",
        "see its load and its port (one without TLS leaves rediss:// waiting), or raise DCAO_REDIS_TIMEOUT_SECONDS",
        False,
    )
    TLS = (
        "tls",
        "the store and this controller do not agree on TLS",
        "use rediss:// for a port with TLS and redis:// for one without; name its authority in DCAO_REDIS_CA_FILE",
        False,
    )
    AUTH = (
        "auth",
        "the store refuses the user or the password",
        "correct DCAO_REDIS_USERNAME and DCAO_REDIS_PASSWORD (or its file), or the URL",
        False,
    )
    PROTECTED = (
        "protected",
        "the store takes connections of its own machine only: its protected mode is on and it has no password",
        "give it a password (`requirepass`) and the same in DCAO_REDIS_PASSWORD, or turn its protected mode off",
        False,
    )
    PERMISSION = (
        "permission",
        "the store's user may not do what is needed",
        "allow it reading and writing of the keys dcao:1:* and scripts (Redis), or of the folder DCAO_DATA (SQLite)",
        True,
    )
    CLIENTS = (
        "clients",
        "the store takes no more connections",
        "raise its `maxclients`, or lower DCAO_REDIS_MAX_CONNECTIONS (each controller may take that many and six more)",
        False,
    )
    CLUSTER = (
        "cluster",
        "the store is one node of a Redis Cluster",
        "begin DCAO_REDIS_URL with redis+cluster:// (or rediss+cluster://)",
        False,
    )
    FOREIGN = (
        "foreign",
        "what the store has of this is not what a controller wrote",
        "see the log for the run; delete it (or its key), or restore a whole backup, and let nothing else write to the "
        "store",
        False,
    )
    DATABASE = (
        "database",
        "the store has no database of that number",
        "correct the number at the end of DCAO_REDIS_URL",
        False,
    )
    READ_ONLY = (
        "readonly",
        "the store takes no writes: it is a replica, or its file is read-only",
        "point DCAO_REDIS_URL to the primary (or to its Sentinels), or make the file in DCAO_DATA writable",
        True,
    )
    FULL = (
        "full",
        "the store is full: its memory or its disk",
        "free some, give it more, or shorten DCAO_RETENTION_DAYS and run `dcao-controller gc`",
        True,
    )
    LOCKED = (
        "locked",
        "another process holds the store's file",
        "end what keeps a transaction open in it; with several controllers use Redis",
        True,
    )
    CORRUPT = (
        "corrupt",
        "the store's file is damaged",
        "move the file in DCAO_DATA away and start anew (the workers bring their runs back), or restore a backup",
        False,
    )
    SCHEMA = (
        "schema",
        "a newer controller has written the store",
        "start that version again, or use another store",
        False,
    )
    LOADING = ("loading", "the store is starting or changing over", "wait; it answers when it is done", True)
    OTHER = ("other", "the store refuses", "see its words in the log of this controller", False)

    def __init__(self, label: str, meaning: str, fix: str, readable: bool) -> None:
        self.label = label
        self.meaning = meaning
        self.fix = fix
        self.readable = readable


class Trouble(NamedTuple):
    """What is wrong, and the store's own words, which are for the log only: they may name hosts and files."""

    kind: TroubleKind
    said: str

    def __str__(self) -> str:
        return f"{self.kind.meaning}; {self.kind.fix}"


MOST_TEXT = 300


def trouble(kind: TroubleKind, error: BaseException) -> Trouble:
    """With the error's text, cut; its class if it has none."""
    return Trouble(kind, (str(error) or type(error).__name__)[:MOST_TEXT])
