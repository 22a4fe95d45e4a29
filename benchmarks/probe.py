"""Ours and the libraries on the same weights and the same batch, against a float64 reference.

    python benchmarks/probe.py                     # every model, cold
    python benchmarks/probe.py --models gpt        # one
    python benchmarks/probe.py --warm --interval 10   # ours, along a training

Needs the dependency group ``bench`` (PyHessian, curvlinops, hessian-eigenthings without their pin on
torch). Times are CPU seconds divided by those of gradients of the same batch just before and after, so that
another load on the machine does not change them. PyHessian always measures in eval mode, so the cold comparison
does too; ``--mode train`` leaves it out.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import statistics
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from probe_meter import gradient_seconds, in_gradients, peak_bytes, plain_gradient
from probe_peers import Case, Found, Method, curvlinops, eigenthings, pyhessian
from probe_workloads import TEXT, Batch, Workload, step, train, workloads
from torch import Tensor, nn

from dcao_client.spectrum import Probe, ProbeSettings

REPEATS = 3
# Along a training the libraries measure at every so many of our probes: they take minutes.
BESIDE = 4
RATIOS = (1.3, 1.05, 1.005)
EXACT = ProbeSettings(
    max_matvecs=70, rho_tol=1e-9, gamma_tol=1e-7, gamma_floor=0.0, matvec="double_backward", preconditioned=False
)


@dataclass
class Row:
    """One method on one model; times in gradients."""

    model: str
    method: str
    matvecs: int
    gradients: float
    peak: float
    rho_error: float
    gamma_error: float
    bound_ok: bool | None = None

    @property
    def reached(self) -> bool:
        return self.rho_error <= 0.01 and self.gamma_error <= 0.05


def reference(model: nn.Module, loss: Callable[[nn.Module, Batch], Tensor], batch: Batch) -> tuple[float, float]:
    """λ₁ and γ in float64, to residuals below 1e-9."""
    wide = copy.deepcopy(model).double()
    x, y = batch
    found = Probe(wide, loss, settings=EXACT).measure((x.double() if x.is_floating_point() else x, y))
    assert found.rho is not None
    assert found.gamma is not None
    return found.rho, found.gamma


def quick_reference(model: nn.Module, work: Workload, batch: Batch) -> tuple[float, float]:
    """The same in float32 to 1e-4 of λ₁ and 1 % of γ, a fifth of the price: enough beside errors of 1 % and 5 %."""
    settings = ProbeSettings(
        max_matvecs=40, rho_tol=1e-4, gamma_tol=1e-2, gamma_floor=0.0, matvec="double_backward", preconditioned=False
    )
    found = Probe(model, work.loss, settings=settings).measure(batch)
    assert found.rho is not None
    assert found.gamma is not None
    return found.rho, found.gamma


def cases(names: list[str], steps: int, mode: str, text: Path) -> list[Case]:
    """The models at the weights that a short training leaves."""
    made = []
    for name in names:
        work = workloads(text)[name.split("-")[0]]
        model, _, stream = train(work, steps)
        batch = next(stream)
        model.train(mode == "train")
        if name.startswith("mlp-"):
            _set_ratio(model, work, batch, float(name.removeprefix("mlp-")))
        rho, gamma = reference(model, work.loss, batch)
        call = lambda m=model, w=work, b=batch: plain_gradient(m, w.loss, b)  # noqa: E731
        made.append(Case(name, model, work.loss, batch, rho, gamma, gradient_seconds(call), peak_bytes(call)))
        print(
            f"# {name} ({mode}): λ₁ {rho:.6g}, γ/λ₁ {gamma / rho:.4g}, gradient {made[-1].gradient:.3f} s CPU",
            flush=True,
        )
    return made


def _set_ratio(model: nn.Module, work: Workload, batch: Batch, ratio: float) -> None:
    """Scale the right tower's loss so that its λ₁ is the left tower's over ``ratio``: H is block-diagonal."""
    tops = []
    for side, off in ((model.left, model.right), (model.right, model.left)):
        off.requires_grad_(False)
        model.share.fill_(1.0)
        tops.append(reference(model, work.loss, batch)[0])
        off.requires_grad_(True)
        del side
    model.share.fill_(tops[0] / ratio / tops[1])


def _row(case: Case, method: str, call: Method, memory: bool) -> Row:
    (rho, gamma, matvecs, ok), gradients = in_gradients(
        call, lambda: plain_gradient(case.model, case.loss, case.batch), REPEATS
    )
    peak = peak_bytes(call) / case.memory if memory else float("nan")
    return Row(case.name, method, matvecs, gradients, peak, abs(rho / case.rho - 1), abs(gamma / case.gamma - 1), ok)


def ours(case: Case, *, faster: bool = True, **changes: object) -> Method:
    """A probe that was attached (its kind of product chosen) before, measuring cold.

    Without ``faster`` its gradients are computed as the training's are.
    """
    settings = ProbeSettings(preconditioned=False, **changes)  # type: ignore[arg-type]
    first = Probe(case.model, case.loss, settings=settings)
    first.measure(case.batch)
    choice = first.choice
    if not faster:
        choice.channels_last = choice.onednn = False

    def call() -> Found:
        probe = Probe(case.model, case.loss, settings=settings)
        probe.choice, probe._probes = choice, 1  # the first one looks for multiples as well
        s = probe.measure(case.batch)
        if s.rho is None or s.gamma is None:
            return float("nan"), float("nan"), s.matvecs, None
        ok = abs(s.rho - case.rho) <= s.rho_bound and abs(s.gamma - case.gamma) <= s.gamma_bound
        return s.rho, s.gamma, s.matvecs, ok

    return call


def cold(arguments: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    for case in cases(arguments.models, arguments.steps, arguments.mode, arguments.text):
        methods: dict[str, Callable[[], Method]] = {
            "dcao": lambda case=case: ours(case),
            "dcao, the training's kernels": lambda case=case: ours(case, faster=False),
            "dcao double backward": lambda case=case: ours(case, matvec="double_backward"),
        }
        if arguments.peers:
            methods["hessian-eigenthings, 20 steps"] = lambda case=case: eigenthings(case, max_iter=20)
            methods["hessian-eigenthings, defaults"] = lambda case=case: eigenthings(case)
            methods["curvlinops + eigsh"] = lambda case=case: curvlinops(case)
            if arguments.mode == "eval":
                methods["PyHessian"] = lambda case=case: pyhessian(case)
        for name, make in methods.items():
            row = _tried(case, name, make, arguments.memory)
            if row is not None:
                rows.append(row)
    return rows


def _tried(case: Case, method: str, make: Callable[[], Method], memory: bool) -> Row | None:
    """The row of a method, shown; None where it cannot do what is asked, which is said."""
    try:
        row = _row(case, method, make(), memory)
    except Exception as error:
        print(f"{case.name:10} {method:32} failed: {type(error).__name__}: {str(error)[:150]}", flush=True)
        return None
    show(row)
    return row


def show(row: Row) -> None:
    mark = "reached" if row.reached else ("bound says so" if row.bound_ok else "MISSED")
    print(
        f"{row.model:10} {row.method:32} {row.matvecs:4d} products {row.gradients:7.1f} gradients "
        f"{row.peak:5.2f} x memory  λ₁ {row.rho_error:.1e}  γ {row.gamma_error:.1e}  {mark}",
        flush=True,
    )


def warm(arguments: argparse.Namespace) -> list[Row]:
    """Ours along a training: a probe every ``interval`` steps on the current or on a fixed batch; libraries beside."""
    rows = []
    for name in arguments.models:
        both = list(_along(workloads(arguments.text)[name], arguments))
        mine = [r for r in both if r.method.startswith("dcao")]
        good = sum(r.reached for r in mine)
        said = sum(r.reached or bool(r.bound_ok) for r in mine)
        median = statistics.median(r.gradients for r in mine)
        print(f"# {name}: median {median:.1f} gradients; {good}/{len(mine)} reached, {said}/{len(mine)} or bounded")
        for method in dict.fromkeys(r.method for r in both if r not in mine):
            theirs = [r for r in both if r.method == method]
            cost = statistics.median(r.gradients for r in theirs)
            reached = sum(r.reached for r in theirs)
            print(f"#   {method}: median {cost:.1f}, {cost / median:.1f} x ours; {reached}/{len(theirs)} reached")
        rows += both
    return rows


def _along(work: Workload, arguments: argparse.Namespace) -> Iterator[Row]:
    model, optimizer, stream = train(work, arguments.steps)
    fixed = next(stream)
    probe = Probe(model, work.loss, settings=ProbeSettings(preconditioned=False))
    probe.measure(fixed)  # attach: not counted
    label = f"dcao warm/{arguments.interval} {arguments.batch}"
    for index in range(arguments.probes):
        for _ in range(arguments.interval):
            step(work, model, optimizer, next(stream))
        batch = fixed if arguments.batch == "fixed" else next(stream)
        rho, gamma = quick_reference(model, work, batch)
        gradient = functools.partial(plain_gradient, model, work.loss, batch)
        found, gradients = in_gradients(functools.partial(probe.measure, batch), gradient)
        ok = abs(found.rho - rho) <= found.rho_bound and abs(found.gamma - gamma) <= found.gamma_bound
        errors = abs(found.rho / rho - 1), abs(found.gamma / gamma - 1)
        row = Row(work.name, label, found.matvecs, gradients, float("nan"), *errors, ok)
        show(row)
        yield row
        if arguments.peers and index % BESIDE == 0:
            case = Case(work.name, model, work.loss, batch, rho, gamma, float("nan"), 0)
            for method, make in along_peers(case).items():
                beside = _tried(case, method, make, memory=False)
                if beside is not None:
                    yield beside


def along_peers(case: Case) -> dict[str, Callable[[], Method]]:
    """The libraries that reach the accuracy and leave the model's mode as it is (PyHessian always evaluates)."""
    return {
        "hessian-eigenthings, 20 steps": lambda: eigenthings(case, max_iter=20),
        "curvlinops + eigsh": lambda: curvlinops(case),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = ["resnet", "gpt", *(f"mlp-{r}" for r in RATIOS)]
    parser.add_argument("--models", nargs="+", default=None)
    parser.add_argument("--steps", type=int, default=200, help="training steps before the measurement")
    parser.add_argument("--mode", choices=["train", "eval"], default="eval")
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--interval", type=int, default=10)
    parser.add_argument("--probes", type=int, default=12)
    parser.add_argument("--batch", choices=["current", "fixed"], default="current")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.models = arguments.models or (["resnet", "cnn", "gpt"] if arguments.warm else everything)
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    rows = warm(arguments) if arguments.warm else cold(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(r) for r in rows], indent=1))


if __name__ == "__main__":
    main()
