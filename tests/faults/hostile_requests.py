"""Requests that nobody should send, from a seed: every route; bodies wrong in size, shape, value and text."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

from dcao_proto import paths

KIB, MIB = 1024, 1024 * 1024
SPEC: dict[str, Any] = {"optimizer": "sgd", "base": {"lr": 0.1, "momentum": 0.9}, "policy": {"name": "paper"}}
OBSERVATION: dict[str, Any] = {"step": 10, "rho": 12.0, "gamma": 4.0, "loss": 0.5, "worker": "rank0"}
DECISION: dict[str, Any] = {
    "attempt": 1, "step": 10, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "multipliers": {}, "regime": "stable",
    "next_probe_in": 100, "policy": "paper@1", "version": 1, "reasons": ["calibrated"],
}  # fmt: skip
NAMES = ("p", "r0", "r1", "r2", "-", "a" * 64, "%00", "..", "a b", "\ud7ff", "dcao_abcd_1234", "a:finish", "%ff")
WORDS: tuple[Any, ...] = (
    0, -1, 1, 2**31, 2**53 - 1, 2**53, 2**64, 10**400, -0.0, 5e-324, 1e308, 1e309, True, None, "", "NaN", "\x00",
    "\ud800", "x" * 200, "é" * 128, [], {}, [[]], {"a": {}}, [None] * 300, "dcao1.e30.e30.00000000",
    "ok", "sgd", "1:1",
)  # fmt: skip
FILLERS = (b"{}", b"[]", b"0", b'""', b'{"a":{}}', b"[[]]", b'"\\u0000"', b"-1e308", b'{"name":"a","slope":1}', b"null")


class Request(NamedTuple):
    """What is sent. `body` None sends none."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes | None


class Hostile:
    """A writer who means no good; the same seed sends the same.

    Args:
        seed: of everything.
        most: bytes of the largest body.
    """

    def __init__(self, seed: int, most: int = 17 * MIB) -> None:
        self.random = random.Random(seed)
        self.most = most
        self.token: str | None = None
        """A state token of the controller under test, to be bent."""

    def request(self) -> Request:
        """The next one, sent as it is: no client corrects it."""
        pick = self.random
        method, path, base = pick.choice(self._routes())
        if pick.random() < 0.05:
            method = pick.choice(("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"))
        target = path + self._query()
        headers = self._headers()
        if base is None and pick.random() < 0.9:
            return Request(method, target, headers, None)
        headers.setdefault("content-type", "application/json")
        return Request(method, target, headers, self._body(base or {}, path.endswith(":backfill")))

    def _routes(self) -> list[tuple[str, str, Any]]:
        project, run = (self._name() for _ in range(2))

        def of(template: str) -> str:
            return template.replace("{project}", project).replace("{run}", run)

        entry = {"observation": OBSERVATION, "decision": DECISION}
        write: list[tuple[str, str, Any]] = [
            ("PUT", of(paths.RUN), SPEC),
            ("POST", of(paths.DECISIONS), OBSERVATION),
            ("POST", of(paths.DECISIONS), {**OBSERVATION, "state": self.token, "version": 1}),
            ("POST", of(paths.BACKFILL), {"entries": [entry] * self.random.randrange(1, 5)}),
            ("POST", of(paths.ATTEMPTS), {"state": self.token, "version": 1, "step": 5}),
            ("POST", of(paths.FINISH), {"reason": "done"}),
            ("POST", of(paths.FAIL), {"reason": "no"}),
            ("POST", of(paths.REPLAY), {"name": "paper", "params": {}}),
            ("POST", paths.DECIDE, {"spec": SPEC, "observation": OBSERVATION}),
        ]
        read = [
            paths.RUN,
            paths.RUNS,
            paths.PROJECTS,
            paths.DECISIONS,
            paths.POLICIES,
            paths.METRICS,
            paths.RUN_METRICS,
        ]
        read += [paths.HEALTHZ, paths.READYZ, paths.OPENAPI, "/", "/static/" + quote(run), "/v1/" + quote(run)]
        return write * 3 + [("GET", of(path), None) for path in read] + [("DELETE", of(paths.RUN), None)]

    def _name(self) -> str:
        name = self.random.choice(NAMES[:4] * 6 + NAMES)
        return name if name.startswith("%") else quote(name, safe="", errors="replace")

    def _query(self) -> str:
        pick = self.random
        if pick.random() < 0.7:
            return ""
        names = ("after", "limit", "format", "cursor", "status", "label", "x" * 50)
        values = (
            "1:1",
            "-1",
            "9" * 30,
            "csv",
            "ndjson",
            "parquet",
            "json",
            "%ff",
            "%ed%a0%80",
            "a=b",
            "1",
            "10000",
            "W10",
            "",
        )
        return "?" + "&".join(f"{pick.choice(names)}={pick.choice(values)}" for _ in range(pick.choice((1, 2, 200))))

    def _headers(self) -> dict[str, str]:
        pick = self.random
        every = {
            "content-type": pick.choice(("application/json; charset=utf-16", "text/plain", "application/jsonx", "")),
            "content-encoding": "gzip",
            "x-request-id": "x" * pick.choice((0, 64, 65, 4000)),
            "traceparent": "00-" + "f" * 32 + "-" + "0" * 16 + "-01",
            "last-event-id": pick.choice(("1:1", "x", "9" * 64)),
            "x-forwarded-for": "10.0.0.1, " * pick.choice((1, 300)) + "1.1.1.1",
            "accept": pick.choice(("application/openmetrics-text", "*/*;q=x", "")),
            "if-none-match": "*",
            "authorization": pick.choice(("Bearer dcao_abcd_00", "Basic eDp5", "bearer")),
            "origin": "http://localhost",
        }
        return {name: every[name] for name in every if pick.random() < 0.06}

    def _body(self, base: Any, journal: bool) -> bytes:
        kinds: list[Callable[[Any, int], bytes]] = [self._bent, self._bent, self._filled, self._long, self._broken]
        most = self.most if journal else 140 * KIB
        size = int(2 ** self.random.uniform(4, most.bit_length()))
        return self.random.choice(kinds)(base, min(size, most))

    def _bent(self, base: Any, _size: int) -> bytes:
        """A message with some values that are none."""
        document = json.loads(json.dumps(base))
        for _ in range(self.random.choice((0, 1, 1, 2, 5))):
            self._bend(document)
        return self._text(document)

    def _bend(self, document: Any) -> None:
        pick = self.random
        here = document
        while True:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            if not keys:
                return
            key = pick.choice(keys)
            if isinstance(here[key], dict | list) and here[key] and pick.random() < 0.7:
                here = here[key]
                continue
            if isinstance(here, dict) and pick.random() < 0.3:
                key = pick.choice(
                    ("groups", "labels", "policy", "bounds", "probe", "state", "reasons", "entries", "zz")
                )
            here[key] = copy.deepcopy(pick.choice(WORDS))
            return

    @staticmethod
    def _text(document: Any) -> bytes:
        return json.dumps(document).replace("Infinity", "1e999").encode()

    def _filled(self, base: Any, size: int) -> bytes:
        """A message with a list of so many small things that it has a size."""
        pick = self.random
        item = pick.choice(FILLERS)
        name = pick.choice((b"entries", b"groups", b"reasons", b"labels", b"params", b"observation", b"zz"))
        many = b",".join([item] * (size // (len(item) + 1)))
        if pick.random() < 0.3:
            many = b",".join(b'"k%d":%b' % (i, item) for i in range(size // (len(item) + 8)))
            return self._text(base)[:-1] + b',"' + name + b'":{' + many + b"}}"
        if pick.random() < 0.3:
            return b'{"' + name + b'":[' + many + b"]}"
        return self._text(base)[:-1] + b',"' + name + b'":[' + many + b"]}"

    def _long(self, base: Any, size: int) -> bytes:
        """One long text, or one long number, or one deep nest."""
        pick = self.random
        inner = pick.choice(
            (
                b'"' + b"x" * size + b'"',
                b'"' + b"\\\\" * (size // 2) + b'"',
                b'"' + b"{[,]}" * (size // 5) + b'"',
                b'"' + "é".encode() * (size // 2) + b'"',
                b"9" * size,
                b"[" * (size // 2) + b"]" * (size // 2),
                b'{"a":' * (size // 6) + b"1" + b"}" * (size // 6),
                b" " * size + b"1",
            )
        )
        name = pick.choice((b"state", b"worker", b"entries", b"reason", b"step", b"params", b"zz"))
        return self._text(base)[:-1] + b',"' + name + b'":' + inner + b"}"

    def _broken(self, base: Any, size: int) -> bytes:
        """Cut, repeated, or no text at all."""
        pick = self.random
        whole = self._text(base)
        return pick.choice(
            (
                whole[: pick.randrange(len(whole))],
                whole + whole,
                whole.decode().encode("utf-16"),
                pick.randbytes(min(size, 64 * KIB)),
                b"\x1f\x8b\x08" + bytes(min(size, 64 * KIB)),
                whole.replace(b"1", b"\xff"),
                b"",
                b'{"entries":[' + b",".join([whole] * max(1, min(1200, size // len(whole)))) + b"]}",
            )
        )
