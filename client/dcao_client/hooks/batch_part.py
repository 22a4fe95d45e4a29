"""Which part of a batch is measured, and whether this batch will do."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, Protocol

from dcao_client.hooks.dear_probes import SHARPNESS_SHARE, DearProbes
from dcao_client.hooks.ranks import from_talker
from dcao_client.spectrum import Budget, Spectrum
from dcao_client.spectrum.batches import MicroBatches
from dcao_client.spectrum.settings import ProbeSettings

log = logging.getLogger("dcao")


class Probes(Protocol):
    """What measures, whatever the framework."""

    settings: ProbeSettings

    def measure(self, batch: Any) -> Spectrum: ...

    def sharpness(self, batch: Any) -> Spectrum: ...

    def track(self, batch: Any) -> Spectrum: ...

    def join(self, collective: Any) -> None: ...

    def examples(self, batch: Any) -> int:
        """How many the batch holds."""
        ...

    def measured_examples(self, examples: int, share: float, *, roughly: bool = False) -> int | None:
        """How many of them to measure where a share is enough; None: all, whatever comes.

        Args:
            roughly: λ₁ to a factor of 1.5 will do.
        """
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class BatchPart:
    """Chooses the part, once, where nobody else has.

    Args:
        probe: what measures; its `settings.probe_batch` is the part.
        budget: of the wall-clock time, if there is one.
        with_gap: whether the law needs a second eigenvalue.
        whole: data of the user's own is measured as it is.
    """

    def __init__(self, probe: Probes, budget: Budget | None, *, with_gap: bool, whole: bool) -> None:
        self._probe, self._budget, self._with_gap = probe, budget, with_gap
        self._ours = probe.settings.probe_batch is None and not whole
        self._dear = DearProbes()
        self.examples = 0  # of the largest batch so far

    def measured(self, batch: Any) -> Spectrum:
        """The curvature of the part chosen, or of the whole batch where the loss refuses a part: a state of the whole
        batch's size, as many labels as there were, a batch that cannot be cut. Then it is the whole one from now on."""
        ask = self._probe.measure if self._with_gap else self._probe.sharpness
        found, chosen = ask(batch), self._probe.settings
        if found.status != "unavailable" or not self._ours or chosen.probe_batch is None:
            return found
        self._ours = False  # tried once: what fails on the whole batch too is not the part's fault
        self._probe.settings = replace(chosen, probe_batch=None)
        whole = ask(batch)
        if whole.status == "unavailable":
            self._probe.settings = chosen
            return found
        log.warning("DCAO: the loss takes no part of a batch (%s); whole batches are measured", found.detail)
        return whole

    def is_ragged(self, batch: Any) -> bool:
        """Whether the batch is smaller than those measured so far, as the last of an epoch is.

        Its curvature would carry another fingerprint and start the references anew; the next step's batch will do.
        """
        try:
            examples = self._probe.examples(batch)
        except Exception:  # noqa: BLE001  (who cannot be counted cannot be measured: the probe says so, once)
            return False
        self._choose(examples)
        wanted = self._probe.settings.probe_batch
        enough = self.examples if wanted is None or isinstance(batch, MicroBatches) else min(wanted, self.examples)
        self.examples = max(self.examples, examples)
        return from_talker(examples < enough)

    def _choose(self, examples: int) -> None:
        """Where neither data nor size is given: a quarter for the sharpness alone, else what the budget can pay."""
        settings = self._probe.settings
        if settings.probe_batch is not None or not self._ours:
            return
        share = (1.0 if self._budget is None else self._budget.share()) if self._with_gap else SHARPNESS_SHARE
        wanted = self._probe.measured_examples(examples, share, roughly=not self._with_gap)
        if wanted is not None:
            self._probe.settings = replace(settings, probe_batch=wanted)

    def next_in(self, step: int, asked: int, matvecs: int) -> int:
        """Steps to the next probe after one of so many products at this step; later than asked where it was dear."""
        if not self.examples:
            return asked
        share = min(self._probe.settings.probe_batch or self.examples, self.examples) / self.examples
        return self._dear.next_in(step, asked, matvecs=matvecs, share=share)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "probe_batch": self._probe.settings.probe_batch,
            "examples": self.examples,
            "gradients": self._dear.gradients,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.examples, self._dear.gradients = int(state["examples"]), float(state["gradients"])
        self._probe.settings = replace(self._probe.settings, probe_batch=state["probe_batch"])
