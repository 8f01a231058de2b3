"""How a page that is made from the code is written: its head, its tables."""

from collections.abc import Iterable, Sequence

MADE = "<!-- Made from the code by `make docs`. -->"


def head(title: str, opening: str) -> str:
    """Begin a page."""
    return f"{MADE}\n# {title}\n\n{opening}\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a table; a cell may hold anything but a line that must stay one."""
    lines = [_row(header), _row(["---"] * len(header))]
    return "\n".join(lines + [_row(row) for row in rows]) + "\n"


def code(text: object) -> str:
    """Set a text in the letters of code; nothing for an empty one."""
    return f"`{text}`" if str(text) else ""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"
