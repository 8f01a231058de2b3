"""Which pages are made from the code, and by what."""

from pathlib import Path

from documentation import decisions, http_api, log_events, metrics, problems, settings

DOCS = Path(__file__).parent.parent / "docs"


def pages() -> dict[str, str]:
    """Every page by its path below `docs/`."""
    made = {
        "reference/settings.md": settings.page(),
        "reference/metrics.md": metrics.page(),
        "reference/problems.md": problems.page(),
        "reference/log-events.md": log_events.page(),
        "decisions/index.md": decisions.page(DOCS / "decisions"),
        **http_api.pages(),
    }
    return {name: text.rstrip() + "\n" for name, text in made.items()}
