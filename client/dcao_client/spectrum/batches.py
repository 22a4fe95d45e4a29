"""Batches: several that make one, and how much of one is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Fewest examples of a batch that are measured where the product chooses: λ₁ of fewer is another number (Jensen).
LEAST_EXAMPLES = 8
# Where a layer takes statistics over them and λ₁ is wanted roughly: half of the batch, and no fewer than this
# (docs/decisions/0100-half-a-batch-norm-batch-for-the-ceiling.md).
LEAST_COUPLED = 32


class MicroBatches(list[Any]):
    """Several batches that make one: measured together, each weighted by its examples.

    It has a name of its own because a plain list is one batch: that is what a ``DataLoader`` yields.
    """


def parts(batch: Any) -> list[Any]:
    """The micro-batches of a batch; itself alone if it is one."""
    return list(batch) if isinstance(batch, MicroBatches) else [batch]


def what_failed(error: Exception, batch: Any) -> str:
    """The first line of what the user's loss or model raised; and a likely cause, if the batch looks like several."""
    words = f"{type(error).__name__}: {first_line(error)}"[:240]
    if type(batch) is list and batch and all(isinstance(one, tuple | list | Mapping) for one in batch):
        words += " (a list is one batch: are these several? then give MicroBatches(batch))"
    return words


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  (the user's own class, whatever it does)
        return "(it cannot say what)"
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def part_of(
    examples: int, share: float, *, coupled: bool, roughly: bool = False, least: int = LEAST_EXAMPLES
) -> int | None:
    """How many of a batch's examples to measure: ``share`` of them, no fewer than ``least``; None: all, whatever comes.

    All where a layer of the model couples examples: part of such a batch is another function (batch norm under the
    statistics of two examples), or none (of one); half of at least 64 where λ₁ is wanted `roughly`, for a ceiling. Also
    all of an empty batch, which decides nothing.
    """
    if coupled:
        share, least = max(share, 0.5) if roughly and examples >= 2 * LEAST_COUPLED else 1.0, LEAST_COUPLED
    return None if examples < 1 or share >= 1.0 else min(examples, max(int(examples * share), least))
