"""Peak memory and time of a probe beside those of a training step.

    python benchmarks/probe_memory.py                # ResNet, CNN, small GPT: the part that attach would measure
    python benchmarks/probe_memory.py --gpt2         # GPT-2 Small, 124 M parameters, built from its
    configuration

Peaks are everything alive: weights, optimizer state, gradients, activations and the probe's own vectors.
    For the small models they are the allocator's, for GPT-2 Small the process's resident set, each phase in
    a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from probe_meter import peak_bytes
from probe_workloads import GPT, TEXT, byte_batches, classify, step, train, workloads

from dcao_client.spectrum import Probe, ProbeSettings
from dcao_client.spectrum.torch.batches import measured_examples

MIB = 2**20


def small(names: list[str], text: Path) -> None:
    """A step on a full batch against a probe of what ``attach`` would measure, both on top of what persists."""
    for name in names:
        work = workloads(text)[name]
        model, optimizer, stream = train(work, 20)
        batch = next(stream)
        state = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
        held = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers(), *state])
        optimizer.zero_grad()
        training = held + peak_bytes(lambda w=work, m=model, o=optimizer, b=batch: step(w, m, o, b))
        optimizer.zero_grad()
        part = measured_examples(model, work.batch_size, 0.25)
        for kind in ("auto", "double_backward"):
            settings = ProbeSettings(matvec=kind, probe_batch=part)  # type: ignore[arg-type]
            probe = Probe(model, work.loss, optimizer=optimizer, settings=settings)
            probe.measure(batch)
            spectrum = []
            probing = held + peak_bytes(lambda p=probe, b=batch, s=spectrum: s.append(p.measure(b)))
            s = spectrum[0]
            print(
                f"{name:8} training step {training / MIB:7.1f} MiB   probe of {s.examples} examples "
                f"({s.matvec}, {s.matvecs} products) {probing / MIB:7.1f} MiB   ratio {probing / training:.2f}",
                flush=True,
            )


def gpt2(arguments: argparse.Namespace) -> None:
    """Each phase in a process of its own, so that its resident peak is its own."""
    for phase in ("train", "probe"):
        command = [sys.executable, __file__, "--phase", phase, "--tokens", str(arguments.tokens)]
        command += ["--sequences", str(arguments.sequences), "--threads", str(arguments.threads)]
        command += ["--steps", str(arguments.steps), "--text", str(arguments.text)]
        subprocess.run(command, check=True)


def one_phase(arguments: argparse.Namespace) -> None:
    """Some AdamW steps on text (bytes, as the first 256 of the 50,257 tokens), or those and then two probes."""
    torch.manual_seed(0)
    model = GPT()
    count = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    stream = byte_batches(arguments.sequences, arguments.tokens, arguments.text)(0)
    took = []
    for _ in range(arguments.steps):
        batch = next(stream)
        began = time.perf_counter()
        optimizer.zero_grad()
        classify(model, batch).backward()
        optimizer.step()
        took.append(time.perf_counter() - began)
    tokens = arguments.sequences * arguments.tokens
    print(f"GPT-2 Small, {count:,} parameters: step of {tokens} tokens {min(took):.2f} s; {_peak()}", flush=True)
    if arguments.phase == "train":
        return
    settings = ProbeSettings(probe_batch=max(1, arguments.sequences // 4))
    optimizer.zero_grad()
    probe = Probe(model, classify, optimizer=optimizer, settings=settings)
    for name in ("attach and measure", "measure"):
        began = time.perf_counter()
        s = probe.measure(next(stream))
        print(
            f"GPT-2 Small {name}: {s.examples} of {arguments.sequences} sequences, {s.matvec}, {s.matvecs} products, "
            f"{s.outcome}, {time.perf_counter() - began:.1f} s; ρ {s.rho:.4g} ± {s.rho_bound:.1g}, γ {s.gamma:.3g} ± "
            f"{s.gamma_bound:.1g} (P^-½HP^-½), basis {s.memory / MIB:.0f} MiB; {_peak()}",
            flush=True,
        )


def _peak() -> str:
    return f"resident peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet", "cnn", "gpt"])
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--gpt2", action="store_true")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10, help="training steps of GPT-2 Small before its probe")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--phase", choices=["train", "probe"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.phase:
        one_phase(arguments)
    elif arguments.gpt2:
        gpt2(arguments)
    else:
        small(arguments.models, arguments.text)


if __name__ == "__main__":
    main()
