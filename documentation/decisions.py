"""The list of decisions, from their own headings."""

from pathlib import Path

from documentation.markdown import head, table

OPENING = """
Why things are as they are: context, decision, consequences, alternatives. A decision that is
changed says so, and stays.
"""


def page(directory: Path) -> str:
    """List each decision, by its number, with a link."""
    rows = []
    for path in sorted(directory.glob("[0-9]*.md")):
        number, _, title = path.read_text().partition("\n")[0].removeprefix("# ").partition(". ")
        rows.append((number, f"[{title}]({path.name})"))
    return "\n".join([head("Decisions", OPENING.strip()), table(("", "decision"), rows)])
