"""The report: one line per scenario, for a person to read."""

from collections.abc import Iterable, Sequence

from tests.chaos.checker import Breach, Verdict

BREACHES_SHOWN = 10
HEADINGS = (
    *("scenario", "accepted", "fired", "lost", "duplicated", "early", "uncertain"),
    *("p50 ms", "p99 ms", "max ms", "verdict"),
)


def row(name: str, verdict: Verdict) -> list[str]:
    """Write one scenario's figures, each as it is printed."""
    counts = (
        *(verdict.accepted, verdict.fired, verdict.lost),
        *(verdict.duplicated, verdict.early, verdict.uncertain),
    )
    lateness = [f"{milliseconds:,.1f}" for milliseconds in verdict.lateness_ms]
    judgement = "kept" if verdict.is_kept else f"BROKEN: {', '.join(_promises(verdict.breaches))}"
    return [name, *(f"{count:,}" for count in counts), *lateness, judgement]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Line up the rows below their headings: words to the left, figures to the right."""
    lines = [HEADINGS, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEADINGS))]
    return "\n".join(_line(line, widths) for line in lines)


def told(breaches: Sequence[Breach]) -> str:
    """Write the first breaches in full."""
    lines = [str(breach) for breach in breaches[:BREACHES_SHOWN]]
    if len(breaches) > BREACHES_SHOWN:
        lines.append(f"and {len(breaches) - BREACHES_SHOWN:,} more")
    return "\n".join(lines)


def _promises(breaches: Sequence[Breach]) -> Iterable[str]:
    return sorted({breach.promise for breach in breaches})


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    last = len(cells) - 1
    return "  ".join(
        cell.ljust(width) if place in {0, last} else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()
