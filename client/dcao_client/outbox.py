"""The outbox: where a run's decisions go, to the controller or into a journal until there is one."""

import os
import threading

import httpx

from dcao_client.account import say_what_is_left, say_where_it_lies
from dcao_client.backlog import Backlog
from dcao_client.courier import Courier
from dcao_client.dialogue import Dialogue
from dcao_client.errors import RefusedError
from dcao_client.handover import Handover
from dcao_client.journal import Journal, JournalEnd, JournalHeader
from dcao_client.lineage import Lineage
from dcao_client.once import Once
from dcao_client.settings import ClientSettings
from dcao_client.transport import open_transport
from dcao_proto import JournalEntry, RunEnd
from dcao_proto.paths import FAIL, FINISH


class Outbox:
    """What speaks of one run by its name. Nothing is written or sent before the first decision.

    Args:
        settings: where the controller is, and the journals.
        names: project and run, as on the wire.
        lineage: the session's; guarded by `lock`.
        lock: the session's.
        once: says what must be said.
        http: a transport for httpx, for tests.
    """

    def __init__(
        self,
        settings: ClientSettings,
        names: tuple[str, str],
        lineage: Lineage,
        lock: threading.Lock,
        once: Once,
        http: httpx.BaseTransport | None,
    ) -> None:
        self._settings, self._lineage, self._lock, self._once = settings, lineage, lock, once
        header = JournalHeader(project=names[0], run=names[1], spec=lineage.bound.spec)
        directory = settings.journal_dir if settings.journal else None
        size = settings.journal_max_mib << 20
        self.journal = Journal(directory, header, once, max_bytes=size)
        self._apart = Journal(directory, header, once, max_bytes=size, suffix=".refused")
        self.backlog = Backlog(self.journal, once)
        self._pid = os.getpid()
        self._courier = None if settings.url is None else self._open_courier(settings.url, names, http)

    def _open_courier(self, url: str, names: tuple[str, str], http: httpx.BaseTransport | None) -> Courier:
        dialogue = Dialogue(open_transport(self._settings, url, http, self._once), names)
        handover = Handover(
            dialogue, self._lineage, self.backlog, self._lock, self._once,
            joins=self._lineage.bound.spec.workers > 1, set_aside=self._set_aside,
        )  # fmt: skip
        return Courier(dialogue, handover, self._lineage, self.backlog, self._once)

    @property
    def ours(self) -> bool:
        """Whether this process opened it: a forked child has neither the courier's thread nor a share in the file."""
        return os.getpid() == self._pid

    @property
    def courier(self) -> Courier | None:
        """Who talks to the controller, if there is one to talk to."""
        return self._courier if self.ours else None

    def keep(self, entry: JournalEntry) -> None:
        """Adds a decision that was made in-process; call it with the lock held."""
        if not self.ours:
            return
        if self._courier is not None:
            self._courier.enqueue(entry)
            return
        fresh = self.journal.path is None  # without a controller the journal is the history
        if self.journal.append(entry) is not None and fresh and self._settings.url is None:
            say_where_it_lies(self._once, self._settings, self.journal, resumed=self._lineage.resumed)

    def _set_aside(self, entry: JournalEntry, why: RefusedError | None) -> None:
        self._apart.append(entry)
        self._once.warn(
            "apart",
            "the controller does not take some decisions (%s); they are set aside in %s",
            why or "a step is decided once",
            self._apart.path or "no file, for none can be written",
        )

    def end(self, ended: JournalEnd) -> None:
        """The run has ended: the controller is told behind all that waits."""
        if self.courier is not None:
            path = FINISH if ended.ended == "finished" else FAIL
            self.courier.end(path, RunEnd(reason=ended.reason).wire_json())

    def close(self, timeout: float, ended: JournalEnd | None = None) -> bool:
        """Delivers what it can within `timeout` seconds; what is left stays in the journal.

        Args:
            timeout: seconds.
            ended: how the run ended. Where no controller knows of it then, the journal does, for `dcao sync`.

        Returns:
            Whether the controller has everything; True without one.
        """
        complete, courier = True, self.courier
        self._courier = None
        if courier is not None:
            complete = courier.close(timeout)
        there = self.ours and (self.journal.path is not None if courier is None else courier.owes_end)
        if there and ended is not None:
            with self._lock:
                there = self.journal.end(ended.model_copy(update={"attempt": self._lineage.attempt}))
        if courier is not None:
            say_what_is_left(self._once, self.backlog, self.journal, self._apart, end=there and ended is not None)
        self.journal.close()
        self._apart.close()
        return complete
