"""How figures are taken and told."""

import statistics
from collections.abc import Sequence


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def spread(values: Sequence[float]) -> str:
    """Lateness in a line."""
    p50, p99 = quantile(values, 0.5), quantile(values, 0.99)
    return f"p50 {p50:6.1f}   p99 {p99:6.1f}   max {max(values):6.1f} ms"


def against_floor(name: str, values: Sequence[float], floors: Sequence[float], bar: float) -> str:
    """Medians of both, taken in turn, and their ratio beside the bar it must reach."""
    value, floor = statistics.median(values), statistics.median(floors)
    verdict = "holds" if value / floor >= bar else "FALLS SHORT"
    runs = ", ".join(f"{run:,.0f}" for run in values)
    return (
        f"{name:8} {value:8,.0f} /s   floor {floor:8,.0f} /s   ratio {value / floor:.2f}"
        f"   (bar {bar:.2f}: {verdict}; runs {runs})"
    )
