"""Which runs make a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.law.runner import Run
from benchmarks.law.workloads import WORKLOADS, Workload

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
