"""What a gradient of a linear layer costs when oneDNN multiplies, in that of the library torch calls by itself.

    python benchmarks/probe_linear.py [--threads 1]

Side by side, the median of twenty-five; float32. The probe's differences multiply by oneDNN where this machine's
processor makes it faster (``dcao_client.spectrum.torch.onednn``); ``faster()`` is what the probe finds here.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor, nn

from dcao_client.spectrum.torch.onednn import LEAST, OneDNN, faster

REPEATS = 25
# Rows, inputs, outputs: square ones, those of the benchmark's MLP and GPT, and of GPT-2 Small.
SHAPES = [
    (64, 64, 64),
    (128, 128, 128),
    (512, 64, 64),
    (256, 128, 128),
    (1024, 128, 10),
    (1024, 392, 128),
    (2048, 128, 384),
    (2048, 512, 128),
    (64, 768, 2304),
    (64, 768, 50257),
]


def milliseconds(layer: nn.Linear, x: Tensor, out: Tensor) -> float:
    """One gradient by weights, bias and inputs."""
    began = time.perf_counter()
    torch.autograd.grad(layer(x), (x, *layer.parameters()), out)
    return 1e3 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    print(f"# faster() finds {faster()}")
    for rows, inputs, outputs in SHAPES:
        layer = nn.Linear(inputs, outputs)
        x, out = torch.randn(rows, inputs, requires_grad=True), torch.randn(rows, outputs)
        usual, other = [], []
        for _ in range(REPEATS):
            usual.append(milliseconds(layer, x, out))
            with OneDNN():
                other.append(milliseconds(layer, x, out))
        before, after = statistics.median(usual), statistics.median(other)
        note = "" if rows * inputs * outputs > LEAST else "  (left alone: too small)"
        print(f"{rows:5} × {inputs:4} → {outputs:5}  {before:7.3f} ms, {after / before:.2f} of it{note}", flush=True)


if __name__ == "__main__":
    main()
