"""The client in TypeScript, type-checked and built by the real compiler and run by the real Node."""

import json
import re
import shutil
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dcao_client.lineage import Lineage
from dcao_experiments.controller_process import free_port
from dcao_proto import DecideRequest, Decision, Observation, RunSpec
from dcao_proto.judge import judge
from dcao_proto.policy import PolicyState, bind
from dcao_proto.policy.why import spell, why
from dcao_proto.reading import UnreadableAnswerError, read_answer
from tests.client.test_answers import Controller as AnswerController
from tests.client.test_session import SPEC, bare, history, observations
from tests.components.controller import Controller
from tests.faults.hostile import Grammar
from tests.faults.test_hostile_controller import HostileController

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
SOURCE = ROOT / "client" / "typescript"
VECTORS = ROOT / "proto" / "vectors"
PAGE = (ROOT / "docs" / "hooks" / "typescript.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```ts\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(*command: str | Path, cwd: Path | None = None) -> str:
    assert shutil.which(command[0]), f"expected {command[0]}; `make components` installs it"
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as a user builds it: `tsc` in its folder, in strict mode, without a registry."""
    folder = tmp_path_factory.mktemp("typescript") / "dcao-client"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("dist"))
    run("tsc", cwd=folder)
    return folder


class Talk:
    """A client in a process of its own, one observation after the other."""

    def __init__(self, package: Path, spec: dict[str, Any], **options: Any) -> None:
        command = ["node", HERE / "talk.mjs", package / "dist", json.dumps(spec), json.dumps(options)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(list(map(str, command)), stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def say(self, words: dict[str, Any]) -> dict[str, Any]:
        """What the client makes of an observation, or of its end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(words), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read() if self.process.stderr else ""
        return json.loads(line)

    def decide(self, seen: Observation) -> Decision:
        """Its decision."""
        return Decision.model_validate(self.say(seen.wire())["decision"])

    def close(self) -> str:
        """Nothing more is said: the process ends by itself; what it has warned of."""
        try:
            return self.process.communicate(timeout=20)[1]
        finally:
            self.process.kill()


def as_python(spec: RunSpec, seen: list[Observation]) -> list[Decision]:
    """What the law here decides."""
    bound, state, decisions = bind(spec), PolicyState(), []
    for version, observation in enumerate(seen):
        decision, state = bound.advance(observation, state, version)
        decisions.append(decision.model_copy(update={"state": None}))
    return decisions


def stripped(decision: Decision) -> Decision:
    return bare(decision).model_copy(update={"state": None})


def test_it_passes_the_conformance_vectors(package):
    """All cases of every policy to a relative 1e-12, decision and state; `default` and `constant` bit for bit."""
    lines = [json.loads(line) for line in run("node", HERE / "vectors.mjs", package / "dist", VECTORS).splitlines()]
    assert {line["policy"].partition("@")[0] for line in lines} == {path.stem for path in VECTORS.glob("*.json")}
    for line in lines:
        assert not line["faults"], line
        assert line["steps"] >= 200
        if line["policy"] in ("default@3", "constant@1"):
            assert line["exact"] == line["steps"], line


def test_it_says_why_in_the_very_same_words(package):
    """Every decision of the vectors, with the one before it, and numbers on every border of how they are spelt."""
    numbers = [0.0, 1.125, 0.125, 999.4, 999.5, 999.96, 1000.5, 1234.5, 99999.4, 99999.9, 1e5, 9.996e-4, 1e-3, 5e-324]
    numbers += [m * 10.0**e for e in range(-12, 13) for m in (1.0, 1.005, 2.345, 9.995, 9.9949)]
    numbers += [-x for x in numbers]
    pairs: list[tuple[dict[str, Any] | None, dict[str, Any]]] = []
    for path in sorted(VECTORS.glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf-8"))["cases"]:
            steps = [step["decision"] for step in case["steps"]]
            pairs += zip([None, *steps], steps, strict=False)
    asked = json.dumps({"numbers": numbers, "decisions": pairs})
    got = subprocess.run(
        ["node", HERE / "why.mjs", package / "dist"], input=asked, capture_output=True, text=True, timeout=120
    )
    assert got.returncode == 0, got.stderr
    answer = json.loads(got.stdout)
    assert answer["numbers"] == [spell(x) for x in numbers]
    for (before, decision), said in zip(pairs, answer["said"], strict=True):
        known = None if before is None else Decision.model_validate(before)
        assert tuple(said) == why(Decision.model_validate(decision), known)


SPECS: list[dict[str, Any]] = [
    {"optimizer": "sgd", "base": {"lr": 0.1}},
    {"optimizer": "adamw", "base": {"lr": 1e-3, "momentum": 0.9}, "trust": "guard"},
    {"optimizer": "sgd", "base": {"lr": 0.1}, "trust": "watch", "probe_interval": 7},
    {"optimizer": "sgd", "base": {"lr": 0.0}, "scale": "path", "trust": "auto"},
    {"optimizer": "nesterov", "base": {"lr": 0.1}, "bounds": {"lr": [0.25, 4.0]}, "policy": {"name": "power"}},
    {"optimizer": "sgd", "base": {"lr": 0.1}, "policy": {"name": "edge", "params": {"target": 0.7}}},
]


@pytest.mark.parametrize("given", SPECS, ids=range(len(SPECS)))
def test_what_a_specification_leaves_out_is_as_the_controller_has_it(package, given):
    """The bounds above all: what is decided here must be what the controller decides."""
    program = (
        f"import {{ complete }} from '{package}/dist/messages.js';"
        f"console.log(JSON.stringify(complete({json.dumps(given)})))"
    )
    made = json.loads(run("node", "--input-type=module", "-e", program))
    assert RunSpec.model_validate(made) == RunSpec.model_validate(given)
    assert made["bounds"] == RunSpec.model_validate(given).bounds.wire()


def test_with_the_controller_without_it_and_back(package, mortal_controller: Controller):
    """Ten decisions of the controller, ten made alone, ten of the controller again: the law's own, bit for bit; the
    history has them all as they were applied, and the controller would have decided none otherwise."""
    seen = observations(30)
    talk = Talk(package, SPEC.wire(), run="there-and-back", url=mortal_controller.url, deadline=5000, pause=1)
    decisions = [talk.decide(o) for o in seen[:10]]
    assert all(decision.persisted for decision in decisions)
    mortal_controller.kill()
    decisions += [talk.decide(o) for o in seen[10:20]]
    assert not any(decision.persisted for decision in decisions[10:])
    mortal_controller.start()
    decisions += [talk.decide(o) for o in seen[20:]]
    assert talk.say({"end": "finish"}) | {"took": 0} == {
        "decision": None,
        "told": True,
        "took": 0,
        "waiting": 0,
        "lost": 0,
    }
    warned = talk.close()
    assert decisions[-1].persisted
    assert [stripped(d) for d in decisions] == as_python(SPEC, seen)
    records = history(mortal_controller.url, "there-and-back")
    assert [stripped(r.decision) for r in records] == as_python(SPEC, seen)
    assert not any(record.deviates for record in records)
    assert {record.origin for record in records} == {"online", "backfill"}
    assert "deciding here" in warned


def test_offline_from_the_first_decision_on(package, mortal_controller: Controller):
    """Under scale `path`, and delivered when there is a controller."""
    spec = RunSpec.model_validate(SPECS[3])
    seen = [
        Observation.model_validate(
            {
                "step": step, "rho": 40.0 + step, "gamma": 0.0, "gamma_bound": 40.0, "loss": 2.0,
                "base": {"lr": 0.01 * step, "momentum": 0.9},
                "path": {"distance": 0.05 * step, "gradients": 2.0 + step, "steps": step},
            }
        )
        for step in (0, 1, 2, 4, 8, 16)
    ]  # fmt: skip
    mortal_controller.kill()
    talk = Talk(package, SPECS[3], run="late", url=mortal_controller.url, pause=1, deadline=5000)
    decisions = [talk.decide(o) for o in seen[:4]]
    mortal_controller.start()
    decisions += [talk.decide(o) for o in seen[4:]]
    talk.say({"end": "fail"})
    talk.close()
    assert [stripped(d) for d in decisions] == as_python(spec, seen)
    records = history(mortal_controller.url, "late")
    assert [(r.step, r.origin, r.deviates) for r in records] == [
        (o.step, "backfill" if i < 4 else "online", False) for i, o in enumerate(seen)
    ]


def test_a_process_that_starts_again_goes_on_as_a_new_attempt(package, controller: Controller):
    """Under the same name; it goes on from the newest state, and the one before is fenced off and decides alone."""
    seen = observations(20)
    old = Talk(package, SPEC.wire(), run="started-again", url=controller.url, deadline=5000, pause=1)
    first = [old.decide(o) for o in seen[:10]]
    new = Talk(package, SPEC.wire(), run="started-again", url=controller.url, deadline=5000, pause=1)
    second = [new.decide(o) for o in seen[10:]]
    assert {d.attempt for d in first} == {1}
    assert {d.attempt for d in second} == {2}
    as_one = as_python(SPEC, seen)
    assert [d.model_copy(update={"attempt": 1}) for d in map(stripped, first + second)] == as_one
    stale = old.decide(seen[10])
    assert not stale.persisted
    assert stripped(stale) == as_one[10]
    assert "was there already" not in old.close()
    assert "attempt 1, active): this goes on from its newest state as attempt 2" in new.close()


def test_a_number_that_is_none_is_a_divergence(package):
    """A NaN loss never reaches the law; a base that is none is not used."""
    talk = Talk(package, SPEC.wire(), run="nan")
    said = Decision.model_validate(talk.say({"step": 0, "rho": 3.0, "gamma": 1.0, "nan": "loss"})["decision"])
    assert (said.regime, said.action) == ("diverged", "rollback")
    assert talk.close() == ""


def test_a_black_hole_costs_the_deadline_once_in_a_while(package):
    """A controller that takes connections and is silent: each decision in time, and it is left alone between."""
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        talk = Talk(package, SPEC.wire(), run="silent", url=url, deadline=150, pause=2000)
        said = [talk.say(o.wire()) for o in observations(6)]
        talk.process.kill()
        talk.process.communicate()
    assert [Decision.model_validate(s["decision"]).lr for s in said] == [d.lr for d in as_python(SPEC, observations(6))]
    assert all(s["took"] < 150 + 500 for s in said)  # the cores are shared
    assert said[-1]["waiting"] == 6


def allowed_here(spec: RunSpec, seen: Observation, body: bytes) -> Decision | None:
    """What the Python client makes of an answer."""
    law = bind(spec).decide(seen, PolicyState(), 0)
    try:
        decision = read_answer(Decision, body)
    except UnreadableAnswerError:
        return None
    allowed = judge(spec, seen, decision, law) is None and Lineage(bind(spec)).readable(decision)
    return decision if allowed else None


@pytest.mark.parametrize("trust", [None, "guard"])
def test_what_it_believes_the_run_allows(package, tmp_path, trust):
    """Of 2,000 answers, most with one to three wrong fields: what it takes from one is a decision that Python allows,
    and the one that Python takes if it takes any. It is hardly stricter (a number in quotes is none)."""
    grammar, seen = Grammar(7), observations(3)[2].model_copy(update={"attempt": 1})
    spec = RunSpec.model_validate({"optimizer": "sgd", "base": SPEC.base, "trust": trust}) if trust else SPEC
    right = bind(spec).decide(seen, PolicyState(), 0).wire()
    answers = [json.dumps(right).encode(), *(grammar.wrong_values(right) for _ in range(2000))]
    lines = [json.dumps({"spec": spec.wire(), "asked": seen.wire()}), *(b64encode(a).decode() for a in answers)]
    (tmp_path / "answers").write_text("\n".join(lines))
    there = run("node", HERE / "judge.mjs", package / "dist", tmp_path / "answers").splitlines()
    here = [allowed_here(spec, seen, body) for body in answers]
    for made, known, body in zip(there, here, answers, strict=True):
        taken = None if made == "null" else allowed_here(spec, seen, made.encode())
        assert made == "null" or taken is not None, body[:2000]
        assert taken is None or known is None or taken == known, body[:2000]
    believed = sum(made != "null" for made in there)
    assert there[0] != "null"
    assert 100 < sum(known is not None for known in here) * 0.9 <= believed < 1000


@pytest.fixture
def hostile() -> Iterator[HostileController]:
    server = HostileController(seed=29)
    yield server
    server.kill()


def test_it_goes_on_whatever_answers(package, hostile: HostileController):
    """The wrong answers that the Python client is tested with: never out of bounds, never late, never large."""
    out = json.loads(run("node", HERE / "hostile.mjs", package / "dist", hostile.url, "250", "100"))
    assert out["used"] > 0
    assert out["wrong"] == 0
    assert out["longest"] < 100 + 1000
    assert out["grown"] < 256  # MiB of a garbage-collected heap


class Agreeing(AnswerController):
    """The controller that the Python client is tested with; it tells the segment of a specification too."""

    def right(self, kind: str, path: str, body: bytes) -> dict[str, Any]:
        if path == "/v1/decide":
            asked = DecideRequest.model_validate_json(body)
            return bind(asked.spec).decide(asked.observation, PolicyState(), 0).wire()
        return super().right(kind, path, body)


@pytest.fixture
def agreeing() -> Iterator[Agreeing]:
    server = Agreeing()
    yield server
    server.close()


@pytest.mark.parametrize("ahead", [2, 100, 2**53 - 2])
def test_a_version_that_counts_more_than_was_decided_is_not_taken(package, agreeing, ahead):
    """Echoed, it would be ahead of every store's, and a right controller would take nothing of this run any more."""

    def further(kind, answer):
        if kind != "decisions":
            return answer
        decision = json.loads(answer[2])
        return answer[0], answer[1], json.dumps(decision | {"version": decision["version"] - 1 + ahead}).encode()

    seen = observations(6)
    talk = Talk(package, SPEC.wire(), run="r", url=agreeing.url, deadline=5000, pause=1)
    decisions = [talk.decide(seen[0])]
    agreeing.change = further
    decisions += [talk.decide(o) for o in seen[1:4]]
    agreeing.change = lambda kind, answer: answer
    decisions += [talk.decide(o) for o in seen[4:]]
    assert talk.say({"end": "finish"})["told"]
    talk.close()
    assert [d.persisted for d in decisions[:4]] == [True, False, False, False]
    assert [stripped(d) for d in decisions] == as_python(SPEC, seen)
    assert agreeing.steps == {o.step for o in seen}


def test_what_the_store_loses_while_a_backlog_is_delivered_is_sent_again(package, agreeing):
    """The backfill sets the version right, so no later answer shows the hole; the number of decisions does."""
    seen = observations(8)
    talk = Talk(package, SPEC.wire(), run="r", url=agreeing.url, deadline=5000, pause=1)
    for observation in seen[:5]:
        talk.decide(observation)
    agreeing.change = lambda kind, answer: None
    for observation in seen[5:]:
        talk.decide(observation)
    lost = {seen[3].step, seen[4].step}
    told: list[int] = []

    def forgetful(kind, answer):
        if kind != "PUT":
            return answer
        agreeing.steps -= lost
        lost.clear()
        run = json.loads(answer[2]) | {"decisions": len(agreeing.steps), "version": 8}
        told.append(run["decisions"])
        return answer[0], answer[1], json.dumps(run).encode()

    agreeing.change = forgetful
    assert talk.say({"end": "finish"})["told"]
    talk.close()
    assert agreeing.steps == {observation.step for observation in seen}
    assert told == [6]  # once: what it cannot be given is not asked about for ever


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_of_the_page_runs(package, controller: Controller, number, tmp_path):
    """In at most twelve lines, type-checked, against a controller; its run is in the history."""
    lines = SNIPPETS[number].splitlines()
    assert len([line for line in lines if line.strip()]) <= 12
    text = SNIPPETS[number].replace("http://127.0.0.1:8000", controller.url).replace("dcao-client", "./client.js")
    folder = tmp_path / "user"
    shutil.copytree(package, folder)
    (folder / "src" / "user.ts").write_text(text, encoding="utf-8")
    run("tsc", cwd=folder)
    run("node", "dist/user.js", cwd=folder)
    (name,) = re.findall(r'run: "([^"]+)"', text)
    assert len(history(controller.url, name)) == 6
