"""Reading from a controller, for commands: errors become one sentence and exit code 1."""

from collections.abc import Iterator
from typing import Any, TypeVar

import httpx
import typer
from rich.console import Console

from dcao_client.errors import SettingsError
from dcao_client.names import wire_name
from dcao_client.network import trust
from dcao_client.settings import ClientSettings
from dcao_proto import HistoryPage, ProblemDetails, Record, Run, RunPage
from dcao_proto.message import Message
from dcao_proto.paths import RUNS, run_path
from dcao_proto.reading import UnreadableAnswerError, read_answer

M = TypeVar("M", bound=Message)
MAX_PAGE = 64 * 1024 * 1024  # bytes of one page of a history
DEFAULT_URL = "http://127.0.0.1:8000"
# No markup: "dcao[server]" is a name and not a style.
errors = Console(stderr=True, markup=False)


class Api:
    """The controller that `DCAO_URL` names, or the one on this machine."""

    def __init__(self, url: str | None, project: str | None) -> None:
        try:
            settings = ClientSettings.read(url=url, project=project)
            key = settings.read_api_key()
            self.project = wire_name(settings.project)
            self.url = settings.url or DEFAULT_URL
            proxy = settings.proxy.get_secret_value() if settings.proxy is not None else None
            verify = trust(settings.ca_file) if self.url.startswith("https") else False
        except SettingsError as error:
            errors.print(str(error))
            raise typer.Exit(1) from None
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.Client(
            base_url=self.url, headers=headers, timeout=30, trust_env=False, proxy=proxy, verify=verify
        )

    def get(self, path: str, **params: Any) -> httpx.Response:
        """The answer, or exit code 1 with a sentence."""
        return self.call("GET", path, params={k: v for k, v in params.items() if v is not None})

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request; exit code 1 with a sentence if it fails."""
        try:
            reply = self.http.request(method, path, **options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # Only what is said of the network is passed on: the rest may quote the key.
            network = isinstance(error, httpx.NetworkError | httpx.TimeoutException)
            got = str(error) if network else type(error).__name__
            where = httpx.URL(self.url).copy_with(username="", password="")
            errors.print(f"expected a controller at {where}, got {got}; start one with: dcao serve")
            raise typer.Exit(1) from None
        if not reply.is_success:
            errors.print(explain(reply))
            raise typer.Exit(1)
        return reply

    def runs(self, **params: Any) -> Iterator[Run]:
        """All runs of the project, newest first."""
        cursor: str | None = None
        while True:
            reply = self.get(RUNS.format(project=self.project), cursor=cursor, **params)
            page = _read(RunPage, reply)
            yield from page.runs
            cursor = page.next_cursor
            if cursor is None:
                return

    def run(self, run: str) -> Run:
        """One run."""
        return _read(Run, self.get(run_path(self.project, wire_name(run))))

    def history(self, run: str, after: str | None = None) -> Iterator[Record]:
        """The records of a run, oldest first."""
        while True:
            reply = self.get(f"{run_path(self.project, wire_name(run))}/decisions", after=after, limit=1000)
            page = _read(HistoryPage, reply)
            yield from page.records
            after = page.next_cursor
            if after is None:
                return


def _read(kind: type[M], reply: httpx.Response) -> M:
    """What a controller, perhaps a newer one, says; exit code 1 with a sentence if it makes no sense."""
    try:
        return read_answer(kind, reply.content, max_bytes=MAX_PAGE, max_values=MAX_PAGE)
    except UnreadableAnswerError as error:
        errors.print(f"{error}; is it a controller, and not much older than this client?")
        raise typer.Exit(1) from None


def explain(reply: httpx.Response) -> str:
    """A problem document as a sentence."""
    try:
        problem = read_answer(ProblemDetails, reply.content)
    except UnreadableAnswerError:
        return f"expected a controller, got status {reply.status_code} of {reply.headers.get('content-type')}"
    return f"{problem.title}: {problem.detail}"
