"""Dead band and slew limit: small changes are not worth a recompilation, large ones are taken in steps."""

import math


def in_dead_band(new: float, old: float, band: float) -> bool:
    """Whether the change of a factor is too small to be applied: |ln(new/old)| < band."""
    if band <= 0 or new == old or new <= 0 or old <= 0:
        return False
    return abs(math.log(new) - math.log(old)) < band


def limit_slew(new: float, old: float, ratio: float | None) -> float:
    """At most a factor of `ratio` away from the old value, either way. A factor of 0 has no ratio and is left free."""
    if ratio is None or old <= 0 or new <= 0:
        return new
    return min(max(new, old / ratio), old * ratio)
