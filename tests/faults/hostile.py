"""A hostile controller: a real HTTP server on loopback that answers from a seeded grammar of wrong answers.

`python -m tests.faults.hostile PORT SEED` in a process of its own, so that what it costs is not the client's. About one
decision in three is right, so that the client keeps asking. `GET /count` says how many answers were given.
"""

import contextlib
import gzip
import itertools
import json
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from dcao_proto import Multipliers, Observation, RunSpec
from dcao_proto.policy import BoundPolicy, PolicyState, bind
from dcao_proto.policy.registry import bind_token
from dcao_proto.policy.token import join

Body = bytes
RIGHT = {True: 0.34, False: 0.8}  # share of right answers, about decisions and about the rest
NUMBERS: tuple[str, ...] = (
    "0", "-1", "1e4", "1e300", "-1e300", "1e-300", "1e400", "NaN", "Infinity", "-Infinity", "true", "null", '"0.1"',
    "[]", "{}", "0.99999999", "1e18", "9" * 5000, "2.0000001", "0.4999999", "1.0", "-0.0",
    "5e-324", "1e-12", "0.01",
)  # fmt: skip
NUMERIC = ("lr", "momentum", "weight_decay", "edge_ratio", "ceiling", "next_probe_in", "step", "attempt", "version")
SLUGS = (
    "malformed", "unauthenticated", "forbidden", "run-not-found", "not-found", "run-conflict", "run-ended", "fenced",
    "stale-step", "invalid-state", "too-large", "invalid", "rate-limited", "internal", "store-unavailable", "x" * 5000,
)  # fmt: skip
RETRY = ("1e12", "1e308", "inf", "nan", "-5", "1000000", "0", "soon", "9" * 400, "Wed, 21 Oct 2099 07:28:00 GMT")


class Grammar:
    """What is answered, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.specs: dict[str, BoundPolicy] = {}
        self.steps: dict[str, set[int]] = {}  # in the history

    def right(self, method: str, path: str, body: Body) -> dict[str, Any]:
        """The answer of a controller that agrees to everything."""
        run = path.split("/")[5].partition(":")[0] if path.count("/") >= 5 else "r"
        given = json.loads(body) if body else {}
        steps = self.steps.setdefault(run, set())
        if path.endswith("/decide"):
            seen = Observation.model_validate(given["observation"])
            return bind(RunSpec.model_validate(given["spec"])).decide_from_token(seen).wire()
        if method == "PUT":
            spec = RunSpec.model_validate(given)
            self.specs[run] = bind(spec)
            return {
                "project": "default", "run": run, "spec": spec.wire(), "status": "created", "attempt": 1,
                "version": len(steps), "created_at": 0.0, "updated_at": 0.0, "decisions": len(steps),
                **({"last_step": max(steps)} if steps else {}),
            }  # fmt: skip
        if path.endswith("/attempts"):
            return {"attempt": (given.get("attempt") or 1), "version": 0}
        if path.endswith(":backfill"):
            entries = given["entries"]
            steps.update(entry["observation"]["step"] for entry in entries)
            return {"stored": len(entries), "replayed": 0, "fenced": 0, "version": 1}
        if path.endswith("/decisions"):
            seen = Observation.model_validate(given)
            steps.add(seen.step)
            bound = bind_token(seen.state) if seen.state else self.specs[run]
            return bound.decide_from_token(seen).model_copy(update={"persisted": True}).wire()
        return {}

    def wrong_values(self, answer: dict[str, Any]) -> Body:
        """One to three fields of the right answer replaced by what they should not be."""
        texts = {name: json.dumps(value) for name, value in answer.items()}
        for _ in range(self.random.randint(1, 3)):
            kinds = (self._number, self._factor, self._ceiling, self._state, self._poison, self._shape)
            self.random.choice(kinds)(texts, answer)
        return ("{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}").encode("utf-8", "replace")

    def _number(self, texts: dict[str, str], answer: dict[str, Any]) -> None:
        texts[self.random.choice(NUMERIC)] = self.random.choice(NUMBERS)

    def _factor(self, texts: dict[str, str], answer: dict[str, Any]) -> None:
        name, text = self.random.choice(("lr", "momentum", "weight_decay")), self.random.choice(NUMBERS)
        factors = {"lr": "1.0", "momentum": "1.0", "weight_decay": "1.0"} | {name: text}
        texts["multipliers"] = "{" + ",".join(f'"{key}":{value}' for key, value in factors.items()) + "}"
        with contextlib.suppress(ValueError, KeyError, TypeError, ZeroDivisionError):  # consistent, and not allowed
            texts[name] = repr(float(text) * float(answer[name]) / float(answer["multipliers"][name]))

    def _ceiling(self, texts: dict[str, str], answer: dict[str, Any]) -> None:
        text = self.random.choice(NUMBERS)
        texts["ceiling"] = text
        with contextlib.suppress(ValueError, KeyError, TypeError):
            texts["lr"] = repr(min(float(text), float(answer["lr"])))

    def _poison(self, texts: dict[str, str], answer: dict[str, Any]) -> None:
        """A state that can be read, and from which the law would go somewhere else."""
        with contextlib.suppress(KeyError):
            bound = bind_token(answer["state"])
            state = bound.state_of(answer["state"])
            changed: dict[str, Any] = self.random.choice(
                (
                    {"sharpness": 1e200}, {"sharpness": 5e-324}, {"retreat": 2.0**-20}, {"retreat": 1e-300},
                    {"diverged": 10**9}, {"factors": Multipliers(lr=0.0)}, {"log_rho": 700.0}, {"rho_ref": 1e-300},
                )
            )  # fmt: skip
            poisoned = PolicyState.model_construct(**{**state.__dict__, **changed})
            texts["state"] = json.dumps(join(bound.spec_segment, poisoned))

    def _state(self, texts: dict[str, str], answer: dict[str, Any]) -> None:
        token = str(answer.get("state", "dcao1.a.b.00000000"))
        texts["state"] = json.dumps(
            self.random.choice(
                (
                    "", "x", token[:-1], token + "x", token.replace("dcao1", "dcao2"), "dcao1...", "é" * 50,
                    "x" * 200_000, token[: len(token) // 2], token.swapcase(), 7, None, [token],
                )
            )
        )  # fmt: skip

    def _shape(self, texts: dict[str, str], answer: dict[str, Any]) -> None:
        name, text = self.random.choice(
            (
                ("unknown", "[[],{}]"), ("reasons", '["a b"]'), ("reasons", json.dumps(["clamped:lr"] * 900)),
                ("reasons", "[" + ",".join("1" * 4000) + "]"), ("regime", '"splendid"'), ("regime", '"pending"'),
                ("action", '"explode"'), ("action", '"rollback"'), ("policy", '"other@1"'),
                ("policy", json.dumps("default@1" * 900)),
                ("groups", '[{"name":"g","multiplier":1e9}]'), ("groups", '[{"name":"0","multiplier":0}]'),
                ("groups", '[{"name":"g"},7]'), ("replayed", '"yes"'), ("persisted", "null"), ("spec", "{}"),
                ("run", '"another"'), ("stored", "0"), ("fenced", "3"), ("deviating", "[" + "1," * 4000 + "1]"),
            )
        )  # fmt: skip
        texts[name] = text
        if self.random.random() < 0.3:
            texts.pop(self.random.choice(sorted(texts)))


def head(status: int, length: int | None, *more: str) -> bytes:
    """An HTTP head."""
    lines = [f"HTTP/1.1 {status} X", "content-type: application/json", *more]
    if length is not None:
        lines.append(f"content-length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def whole(status: int, body: Body, *more: str) -> bytes:
    """An HTTP answer."""
    return head(status, len(body), *more) + body


class Hostile:
    """One server.

    Args:
        seed: of the grammar.
        patience: s for which it keeps up what it does slowly.
    """

    def __init__(self, seed: int, patience: float = 0.5) -> None:
        self.grammar = Grammar(seed)
        self.count = 0
        self._patience = patience
        self._lock = threading.Lock()

    def serve(self, port: int) -> None:
        """For ever."""
        with socket.create_server(("127.0.0.1", port), backlog=128) as listening:
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            connection.settimeout(10)
            file = connection.makefile("rb")
            while request := file.readline():
                method, path, _ = request.decode("latin-1").split(" ")
                length = 0
                while (line := file.readline().strip()) != b"":
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                body = file.read(length)
                if path == "/count":
                    connection.sendall(whole(200, str(self.count).encode()))
                    return
                with self._lock:
                    self.count += 1
                    pieces = self._answer(method, path, body)
                for piece in pieces:
                    connection.sendall(piece)
                    if self._closes:
                        return

    _closes = False

    def _answer(self, method: str, path: str, body: Body) -> Iterator[bytes]:
        right = self.grammar.right(method, path, body)
        dice = self.grammar.random
        if dice.random() < RIGHT[path.endswith("/decisions")]:
            return iter((whole(200, json.dumps(right).encode()),))
        kinds: tuple[Callable[[dict[str, Any]], Iterator[bytes]], ...] = (
            self._values, self._values, self._values, self._status, self._status, self._size, self._timing,
            self._encoding, self._truncation,
        )  # fmt: skip
        return dice.choice(kinds)(right)

    def _values(self, right: dict[str, Any]) -> Iterator[bytes]:
        more = (f"DCAO-Healed-After: {self.grammar.random.choice(('x', '9' * 5000, '-7', '-1', '3'))}",)
        yield whole(200, self.grammar.wrong_values(right), *(more if self.grammar.random.random() < 0.1 else ()))

    def _status(self, right: dict[str, Any]) -> Iterator[bytes]:
        dice = self.grammar.random
        status = dice.choice((204, 301, 302, 304, 307, 400, 401, 403, 404, 409, 409, 413, 418, 422, 422, 429, 500, 503))
        problem = {
            "type": f"https://dcao.dev/problems/{dice.choice(SLUGS)}", "title": "t", "status": max(status, 400),
            "detail": dice.choice(("no", "\x1b[31m\n\r\x00" * 50, "d" * 100_000)), "retryable": dice.random() < 0.3,
            "errors": dice.choice((None, [], [{"loc": ["body", "x"], "msg": "m", "type": "extra_forbidden"}])),
        }  # fmt: skip
        body = json.dumps(problem).encode() if dice.random() < 0.7 else b"<html>no</html>"
        more = [f"Retry-After: {dice.choice(RETRY)}", f"Location: http://127.0.0.1:1/{'x' * dice.choice((1, 9000))}"]
        yield whole(status, b"" if status in (204, 304) else body, *more[: dice.randint(0, 2)])

    def _size(self, right: dict[str, Any]) -> Iterator[bytes]:
        dice = self.grammar.random
        kind = dice.randrange(7)
        if kind == 0:
            yield whole(200, BOMB, "content-encoding: gzip")
        elif kind == 1:  # never ends
            yield head(200, None, "transfer-encoding: chunked")
            for _ in range(20_000):
                yield b"10000\r\n" + b"[" * 65536 + b"\r\n"
        elif kind == 2:
            yield whole(200, b'{"a":[' + b"[]," * 2_000_000 + b"[]]}")
        elif kind == 3:
            yield whole(200, b"[" * dice.choice((900, 200_000)))
        elif kind == 4:
            yield head(200, 2, *(f"x-{i}: {'y' * 1000}" for i in range(500))) + b"{}"
        elif kind == 5:
            yield from itertools.repeat(b"HTTP/1.1 102 Processing\r\n\r\n", 50_000)
        else:
            yield whole(200, b'{"reasons":["' + b"x" * 200_000 + b'"],"lr":[' + b"1," * 1900 + b"1]}")

    def _timing(self, right: dict[str, Any]) -> Iterator[bytes]:
        dice = self.grammar.random
        answer = whole(200, json.dumps(right).encode())
        end = time.monotonic() + self._patience
        kind = dice.randrange(4)
        if kind == 0:  # a byte now and then
            for i in range(len(answer)):
                yield answer[i : i + 1]
                time.sleep(0.02)
                if time.monotonic() > end:
                    return
        elif kind == 1:  # silence, then too late
            time.sleep(self._patience)
            yield answer
        elif kind == 2:
            yield answer[: answer.index(b"\r\n\r\n") + 4]
            time.sleep(self._patience)
        else:
            time.sleep(dice.uniform(0, 0.05))
            yield answer

    def _encoding(self, right: dict[str, Any]) -> Iterator[bytes]:
        text = json.dumps(right)
        packed = gzip.compress(text.encode())
        yield self.grammar.random.choice(
            (
                whole(200, packed, "content-encoding: gzip"),
                whole(200, packed[:-9], "content-encoding: gzip"),
                whole(200, text.encode(), "content-encoding: gzip"),
                whole(200, text.encode(), "content-encoding: br"),
                whole(200, packed, "content-encoding: gzip, gzip"),
                whole(200, text.encode("utf-16")),
                whole(200, b"\xef\xbb\xbf" + text.encode()),
                whole(200, b"\xff\xfe" + text.encode()),
                whole(200, text.replace("dcao1", "\\ud800").encode()),
                head(200, None, "transfer-encoding: chunked") + b"zz\r\n" + text.encode(),
                head(200, None, "content-length: x") + text.encode(),
                head(200, 3, "content-length: 9") + text.encode(),
                head(200, -7) + text.encode(),
                b"\x16\x03\x01\x02\x00" * 99 + b"\r\n\r\n",
                b"HTTP/9.9 200 OK\r\n\r\n" + text.encode(),
                b"SSH-2.0-x\r\n",
            )
        )

    def _truncation(self, right: dict[str, Any]) -> Iterator[bytes]:
        answer = whole(200, json.dumps(right).encode())
        yield answer[: self.grammar.random.randrange(len(answer))]
        raise OSError("and gone")


BOMB = gzip.compress(b"[" * 100_000_000, 1) if __name__ == "__main__" else b""


if __name__ == "__main__":
    Hostile(int(sys.argv[2])).serve(int(sys.argv[1]))
