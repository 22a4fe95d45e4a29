"""Bounds: no factor leaves the interval that the run declared."""


def clamp(value: float, interval: tuple[float, float]) -> float:
    """The nearest number in the interval; infinities land on its ends."""
    low, high = interval
    return min(max(value, low), high)
