"""Reading from a controller, for commands: what goes wrong is a `CommandError`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx

from dcao_client.cli.output import CommandError
from dcao_client.errors import SettingsError
from dcao_client.names import wire_name
from dcao_client.network import trust
from dcao_client.settings import ClientSettings
from dcao_client.transport import redirected
from dcao_proto import HistoryPage, PolicyInfo, PolicyList, ProblemDetails, ProjectList, Record, Run, RunPage
from dcao_proto.message import MAX_COUNT, Message
from dcao_proto.paths import POLICIES, PROJECTS, RUNS, run_path
from dcao_proto.reading import UnreadableAnswerError, read_answer

M = TypeVar("M", bound=Message)
MAX_PAGE = 64 * 1024 * 1024  # bytes of one page of a history
MAX_SECONDS = 60.0  # for one page, to its last byte
DEFAULT_URL = "http://127.0.0.1:8000"


class Api:
    """The controller that `DCAO_URL` names, or the one on this machine.

    Every method raises CommandError.
    """

    def __init__(self, url: str | None, project: str | None) -> None:
        try:
            settings = ClientSettings.read(url=url, project=project)
            key = settings.read_api_key()
            self.project = wire_name(settings.project)
            self.url = settings.url or DEFAULT_URL
            proxy = settings.proxy.get_secret_value() if settings.proxy is not None else None
            verify = trust(settings.ca_file) if self.url.startswith("https") else False
        except SettingsError as error:
            raise CommandError(str(error)) from None
        headers = {"accept-encoding": "identity", **({"authorization": f"Bearer {key}"} if key else {})}
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=30, trust_env=False, proxy=proxy, verify=verify
        )

    def close(self) -> None:
        """Closes the connection."""
        self._http.close()

    def get(self, path: str, **params: Any) -> httpx.Response:
        """The answer."""
        return self.call("GET", path, params={k: v for k, v in params.items() if v is not None})

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request; its answer is bounded in bytes and in time, whatever answers."""
        with self._reached(), self._http.stream(method, path, **options) as reply:
            whole = _whole(reply)
        _check(whole)
        return whole

    def download(self, path: str, **params: Any) -> Iterator[bytes]:
        """The body of a long answer, piece by piece."""
        with self._reached(), self._http.stream("GET", path, params=params) as reply:
            if not reply.is_success:
                _check(_whole(reply))
            _plain(reply)
            yield from reply.iter_bytes()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Only what is said of the network is passed on: the rest may quote the key.
            network = isinstance(error, httpx.NetworkError | httpx.TimeoutException)
            got = (str(error) if network else "") or type(error).__name__
            where = httpx.URL(self.url).copy_with(username="", password="")
            raise CommandError(
                f"expected a controller at {where}, got {got}; start one with: dcao serve", passing=True
            ) from None

    def projects(self) -> Iterator[str]:
        """Those with runs, as far as the key may read them, in order of name."""
        cursor: str | None = None
        while True:
            page = _read(ProjectList, self.get(PROJECTS, cursor=cursor))
            yield from page.projects
            cursor = _onwards(cursor, page.next_cursor)
            if cursor is None:
                return

    def runs(self, project: str | None = None, *, page: int = 50, **params: Any) -> Iterator[Run]:
        """All runs of a project, newest first; asks for more as they are taken."""
        cursor: str | None = None
        while True:
            reply = self.get(RUNS.format(project=project or self.project), cursor=cursor, limit=page, **params)
            found = _read(RunPage, reply)
            yield from found.runs
            cursor = _onwards(cursor, found.next_cursor)
            if cursor is None:
                return

    def policies(self) -> tuple[PolicyInfo, ...]:
        """Those of the controller, with the sentences of their reasons."""
        return _read(PolicyList, self.get(POLICIES)).policies

    def run(self, run: str) -> Run:
        """One run."""
        return _read(Run, self.get(run_path(self.project, wire_name(run))))

    def newest(self, run: Run) -> Record | None:
        """The newest record of the run's current attempt."""
        if run.last_step is None or run.decisions == 0:
            return None
        before = f"{run.attempt}:{run.last_step - 1}" if run.last_step else f"{max(run.attempt - 1, 0)}:{MAX_COUNT}"
        reply = self.get(f"{run_path(run.project, run.run)}/decisions", after=before, limit=1)
        return next(iter(_read(HistoryPage, reply).records), None)

    def history(self, run: str, after: str | None = None) -> Iterator[Record]:
        """The records of a run, oldest first."""
        while True:
            reply = self.get(f"{run_path(self.project, wire_name(run))}/decisions", after=after, limit=1000)
            page = _read(HistoryPage, reply)
            yield from page.records
            after = _onwards(after, page.next_cursor)
            if after is None:
                return


def _whole(reply: httpx.Response) -> httpx.Response:
    """The answer with its body."""
    _plain(reply)
    ends, body = time.monotonic() + MAX_SECONDS, bytearray()
    for part in reply.iter_raw():
        body += part
        if len(body) > MAX_PAGE:
            raise CommandError(f"expected an answer of at most {MAX_PAGE >> 20} MiB, got more; is it a controller?")
        if time.monotonic() > ends:
            raise CommandError(f"expected an answer within {MAX_SECONDS:g} s, got a part of one", passing=True)
    return httpx.Response(reply.status_code, headers=reply.headers, content=bytes(body), request=reply.request)


def _plain(reply: httpx.Response) -> None:
    """A few bytes that are compressed may be any number."""
    encoding = reply.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise CommandError(f"expected an answer that is not compressed, as asked for, got {encoding[:20]}")


def _onwards(before: str | None, after: str | None) -> str | None:
    """The next cursor; one that leads nowhere would be followed for ever."""
    if after is not None and after == before:
        raise CommandError("expected a cursor that leads on, got the same again; is it a controller?")
    return after


def _check(reply: httpx.Response) -> None:
    if not reply.is_success:
        raise CommandError(explain(reply), passing=reply.status_code >= 500 or reply.status_code == 429)


def _read(kind: type[M], reply: httpx.Response) -> M:
    """What a controller, perhaps a newer one, says."""
    try:
        return read_answer(kind, reply.content, max_bytes=MAX_PAGE, max_values=MAX_PAGE)
    except UnreadableAnswerError as error:
        raise CommandError(f"{error}; is it a controller, and not much older than this client?") from None


def explain(reply: httpx.Response) -> str:
    """A problem document as a sentence, with the fields that do not fit."""
    if (elsewhere := redirected(reply.status_code, reply.headers.get("location"))) is not None:
        return elsewhere
    try:
        problem = read_answer(ProblemDetails, reply.content)
    except UnreadableAnswerError:
        return f"expected a controller, got status {reply.status_code} of {reply.headers.get('content-type')}"
    fields = (f"{'.'.join(map(str, error.loc))}: {error.msg}" for error in problem.errors or ())
    return "\n  ".join((f"{problem.title}: {problem.detail}", *fields))
