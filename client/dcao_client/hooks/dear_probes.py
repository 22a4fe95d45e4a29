"""When to probe where a probe takes more than a quarter of a batch: batches of less than 32, batch norm.

A law that needs the sharpness alone is probed at steps 0, 1, 2, 4, 8, 16, 32 and then every 32 or 48; of a quarter of
the batch that is a gradient each. Where a larger part must be measured, every second of the early probes is left out,
what they cost is paid back before the next one, and the interval grows with the part: at most 5 % of the gradients
from some 200 to 450 steps on. Counted in gradients of a whole batch and not in seconds, so that a run repeats.
"""

from __future__ import annotations

import math

SHARPNESS_SHARE = 0.25  # the full batch moves no result of a law that needs the sharpness only (docs/policies.md)
PATH_INTERVAL = 32  # with a quarter of the batch a probe is 1.0 to 1.2 gradients: 3 to 4 %
AVERAGED_INTERVAL = 48  # of `DCAO(model, loss)`, which ends alike then; with the start 4 to 5 % of 400 steps

SPARSER = 4  # 0, 1, 4, 16: a ResNet and a CNN at batch 8 end alike (docs/policies.md)
LENT_UNTIL = 16  # early probes are not earned before: the ceiling would come after the cliff
OVERHEAD = 0.05  # of the gradients
USUAL = 4.0  # gradients of its own examples: one and three products


class DearProbes:
    """Counts what probes cost, and says when the next one is due.

    >>> probes = DearProbes()
    >>> steps, step = [], 0
    >>> while step < 1000:
    ...     steps.append(step)
    ...     step += probes.next_in(step, 32, matvecs=3, share=0.5)
    >>> steps, probes.gradients
    ([0, 1, 4, 16, 200, 264, 328, 392, 456, 520, 584, 648, 712, 776, 840, 904, 968], 34.0)
    """

    def __init__(self) -> None:
        self.gradients = 0.0

    def next_in(self, step: int, asked: int, *, matvecs: int, share: float) -> int:
        """Steps to the next probe after one at this step.

        Args:
            asked: as decided.
            matvecs: products of this probe.
            share: of the batch that it measured, in (0, 1].
        """
        self.gradients += (1 + matvecs) * share
        if share <= SHARPNESS_SHARE:
            return asked
        if step < LENT_UNTIL:
            return max((SPARSER - 1) * step, 1)
        earned = math.ceil((self.gradients + USUAL * share) / OVERHEAD) - step
        return max(int(asked * share / SHARPNESS_SHARE), earned)
