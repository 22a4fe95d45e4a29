"""Terminal plots. plotille draws them: no global state, no dependencies."""

import math

import plotille

Series = list[tuple[float, float]]
WIDTH, HEIGHT = 58, 7


def terminal_plots(series: dict[str, Series]) -> list[str]:
    """One plot for each series, drawn over the optimizer step; positive series that span decades are drawn as log10."""
    return [_plot(name, points) for name, points in series.items() if points]


def _plot(name: str, points: Series) -> str:
    xs = [x for x, _ in points]
    ys = [y for _, y in points]
    if min(ys) > 0 and max(ys) / min(ys) > 100:
        name, ys = f"log10 {name}", [math.log10(y) for y in ys]
    figure = plotille.Figure()
    figure.width, figure.height = WIDTH, HEIGHT
    figure.x_label, figure.y_label = "step", name
    figure.register_label_formatter(float, _label)
    low, high = min(ys), max(ys)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    figure.set_x_limits(min_=min(xs), max_=max(max(xs), min(xs) + 1))
    figure.set_y_limits(min_=low - margin, max_=high + margin)
    figure.plot(xs, ys)
    return str(figure.show(legend=False))


def _label(value: float, chars: int, delta: float, left: bool = False) -> str:
    text = f"{value:.4g}"
    return text.ljust(chars) if left else text.rjust(chars)
