"""What `attach(rollback=…)` was given is called, and cannot hurt."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger("dcao")


def go_back(rollback: Callable[[], Any]) -> bool:
    """Calls it; a fault of it is logged and does not reach training. Whether the run now stands elsewhere."""
    try:
        done = rollback() is not False
    except Exception:
        log.exception("DCAO: the run has diverged, and the rollback failed; training goes on from where it is")
        return False
    if done:
        log.warning("DCAO: the run has diverged; it goes on from the last healthy state with half the push")
    else:
        log.warning("DCAO: the run has diverged before there was a healthy state to go back to")
    return done
