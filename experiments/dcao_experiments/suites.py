"""Which runs make a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dcao_experiments.methods import METHODS
from dcao_experiments.run import Run
from dcao_experiments.workloads.small import WORKLOADS, Workload

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the grid's centre: five rates for a tuned cosine
SCALES = (1 / 64, 1 / 8, 1.0, 8.0, 64.0)  # of the tuned rate, for those who set it by hand
PEERS = ("schedule-free", "prodigy", "prodigy-schedule-free", "dog", "ldog")
PARTS = ("path-alone", "curvature-alone")


def base_kinds(workload: Workload) -> list[tuple[str, float]]:
    """The users' optimizers of a workload, with the centre of their grid."""
    return [(k, rate) for k, rate in (("sgd", workload.sgd), ("adamw", workload.adamw)) if rate is not None]


def final(workloads: Sequence[str], seeds: Sequence[int]) -> Iterator[Run]:
    """Ours, cosines over five rates, peers, and ours with a part taken out."""
    for name in workloads:
        for seed in seeds:
            yield Run(name, "dcao", seed)
            for kind, centre in base_kinds(WORKLOADS[name]):
                for factor in FACTORS:
                    yield Run(name, kind, seed, rate=centre * factor)
            if WORKLOADS[name].sgd is not None:
                yield Run(name, "dcao-sgd", seed)
            for method in (*PEERS, *PARTS):
                yield Run(name, method, seed)


def muon(workloads: Sequence[str], seeds: Sequence[int]) -> Iterator[Run]:
    """The Muon form, the Adam form, and torch's Muon with AdamW for the rest over five rates."""
    for name in workloads:
        for seed in seeds:
            yield Run(name, "dcao-muon", seed)
            yield Run(name, "dcao", seed)
            for factor in FACTORS:
                yield Run(name, "muon", seed, rate=WORKLOADS[name].adamw * factor)


def trust(workloads: Sequence[str], seeds: Sequence[int]) -> Iterator[Run]:
    """A user's optimizer whose base rate is off by up to 64 times, alone, guarded, and in our hands."""
    for name in workloads:
        kinds = base_kinds(WORKLOADS[name])
        kind, centre = kinds[0]
        for seed in seeds:
            for scale in SCALES:
                yield Run(name, f"{kind}-auto", seed, rate=centre * scale)
            for scale in (1 / 8, 1.0, 8.0, 64.0):
                yield Run(name, f"{kind}-guard", seed, rate=centre * scale)
            for scale in (1 / 64, 1 / 8, 1.0, 8.0):
                yield Run(name, kind, seed, rate=centre * scale)


def extremes(seeds: Sequence[int]) -> Iterator[Run]:
    """Batches from 8 to 4096, lengths × 10, other averaging, wrong labels."""
    for seed in seeds:
        for name in ("mlp", "cnn", "cnn-he"):
            centre = WORKLOADS[name].adamw
            for batch, steps in ((8, 600), (16, 600), (1024, 150), (4096, 60)):
                yield Run(name, "dcao", seed, batch=batch, steps=steps)
                for factor in FACTORS:
                    yield Run(name, "adamw", seed, rate=centre * factor, batch=batch, steps=steps)
        for name in ("mlp", "cnn", "vit"):
            for b in (0.8, 0.95):
                yield Run(name, "dcao", seed, options={"b": b})
        for name in ("mlp", "vit"):
            yield Run(name, "dcao", seed, batch=32, steps=6000)
            for factor in (0.125, 0.25, 0.5, 1.0, 2.0):
                yield Run(name, "adamw", seed, rate=WORKLOADS[name].adamw * factor, batch=32, steps=6000)
        for name in ("mlp", "cnn"):
            yield Run(name, "dcao", seed, noise=0.4)
            for factor in FACTORS:
                yield Run(name, "adamw", seed, rate=WORKLOADS[name].adamw * factor, noise=0.4)


def finetune(seeds: Sequence[int]) -> Iterator[Run]:
    """A pretrained MiniLM for 60, 240 and 960 steps: how long a run must be for the rate to have risen."""
    for seed in seeds:
        for steps in (60, 240, 960):
            yield Run("minilm", "dcao", seed, steps=steps)
            for factor in FACTORS:
                yield Run("minilm", "adamw", seed, rate=WORKLOADS["minilm"].adamw * factor, steps=steps)


def momenta(seeds: Sequence[int]) -> Iterator[Run]:
    """`auto` over batches 16 … 1024 and momentum 0 … 0.98, beside a tuned cosine."""
    for seed in seeds:
        centre = WORKLOADS["mlp"].sgd or 0.0
        for batch, steps in ((16, 600), (1024, 300)):
            yield Run("mlp", "sgd-auto", seed, rate=centre, batch=batch, steps=steps)
            for factor in FACTORS:
                scaled = centre * factor * (0.125 if batch == 16 else 2.0)
                yield Run("mlp", "sgd", seed, rate=scaled, batch=batch, steps=steps)
        for beta in (0.0, 0.5, 0.98):
            yield Run("mlp", "sgd-auto", seed, rate=centre, options={"beta": beta})
            for factor in FACTORS:
                scaled = centre * factor * {0.0: 5.0, 0.5: 3.0, 0.98: 0.3}[beta]
                yield Run("mlp", "sgd", seed, rate=scaled, options={"beta": beta})
        for beta in (0.0, 0.5, 0.98):
            yield Run("vit", "adamw-auto", seed, rate=1.0, options={"beta": beta})
            for factor in FACTORS:
                yield Run("vit", "adamw", seed, rate=WORKLOADS["vit"].adamw * factor, options={"beta": beta})


def of_method(workload: Workload, method: str, seed: int) -> Iterator[Run]:
    """One run, or one a rate of the grid where the method needs a rate."""
    centre = workload.sgd if METHODS[method].sgd else workload.adamw
    if not METHODS[method].tuned:
        yield Run(workload.name, method, seed)
    elif centre is not None:
        held = method.endswith(("-auto", "-guard"))  # what is claimed of them is that the rate does not matter
        for factor in (1.0,) if held else FACTORS:
            yield Run(workload.name, method, seed, rate=centre * factor)


COMPARED = tuple(name for name in METHODS if not name.startswith(("law", "path-alone", "curvature-alone")))
LAWS = tuple(name for name in METHODS if name.startswith("law"))
SMALL = ("mlp", "cnn", "vit", "resnet", "digits", "pre-lm")
SMOKE_STEPS = 20


def smoke(_: Sequence[str], __: Sequence[int]) -> Iterator[Run]:
    """Every method once, twenty steps of the digits: whether it runs, not how well."""
    for name, method in METHODS.items():
        centre = WORKLOADS["digits"].sgd if method.sgd else WORKLOADS["digits"].adamw
        yield Run("digits", name, 0, rate=(centre or 0.0) if method.tuned else 0.0, steps=SMOKE_STEPS)


def small(workloads: Sequence[str], seeds: Sequence[int]) -> Iterator[Run]:
    """Every method on six small workloads, five rates where a rate is needed."""
    for name in [w for w in SMALL if w in workloads]:
        for seed in seeds:
            for method in (*COMPARED, *PARTS):
                yield from of_method(WORKLOADS[name], method, seed)


def ablations(workloads: Sequence[str], seeds: Sequence[int]) -> Iterator[Run]:
    """The proposal's law with parts taken out, at the rates of a user's SGD, beside that SGD."""
    for name in [w for w in ("mlp", "cnn", "resnet") if w in workloads]:
        for seed in seeds:
            for method in ("sgd", *LAWS):
                yield from of_method(WORKLOADS[name], method, seed)


def _in(workloads: Sequence[str], runs: Iterator[Run]) -> Iterator[Run]:
    return (run for run in runs if run.workload in workloads)


@dataclass(frozen=True)
class Suite:
    """Runs, and how they are reported.

    Attributes:
        runs: (workloads, seeds) → runs.
        report: how its records are shown: as a comparison of methods, of base rates, or of settings.
    """

    name: str
    runs: Callable[[Sequence[str], Sequence[int]], Iterator[Run]]
    report: str
    about: str


SUITES = {
    s.name: s
    for s in (
        Suite("smoke", smoke, "methods", "every method, twenty steps of one workload; minutes"),
        Suite("small", small, "methods", "every method on six workloads; hours"),
        Suite("law", final, "methods", "ours, cosines, peers without a rate, ours with a part taken out; hours"),
        Suite("ablations", ablations, "methods", "the proposal's law with parts taken out, and shuffled in time"),
        Suite("muon", muon, "methods", "the Muon form beside torch's Muon"),
        Suite("trust", trust, "rates", "base rates off by up to 64 times, alone, guarded and in our hands"),
        Suite("extremes", lambda w, s: _in(w, extremes(s)), "settings", "batches 8 … 4096, lengths × 10, wrong labels"),
        Suite("finetune", lambda _, s: finetune(s), "settings", "a pretrained network, short and long"),
        Suite("momenta", lambda w, s: _in(w, momenta(s)), "settings", "batches 16 … 1024 and momentum 0 … .98"),
    )
}
