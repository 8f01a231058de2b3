"""The fenced blocks of the documentation: what a reader would copy, and what is shown to them.

A block's language, and its title where it has one, say what is done with it:

    sh                              run, in the one shell of its page
    sh title="Another terminal"     run beside it, until the page ends
    json after sh                   what that printed: the same keys, kinds and words
    text after sh                   lines that it printed, digits and ids aside
    python title="name.py"          saved under this name, for a command to run
    python title="Before: ..."      another product's, which is not installed: it must only parse
    python                          run
    sql                             run, and rolled back
    yaml, json, toml, promql        must parse
    text                            nothing: a picture, or words
"""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted(
        path for path in DOCS.rglob("*.md") if not {"reference", "decisions"} & set(path.parts)
    ),
]
LANGUAGES = {"sh", "json", "text", "python", "sql", "yaml", "toml", "promql"}
BESIDE = "Another terminal"

FENCE = re.compile(
    r'^(?P<indent> *)```(?P<language>\w*)(?: title="(?P<title>[^"]*)")?\n'
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """One block, where it stands."""

    page: str
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}\n{self.text}"

    @property
    def command(self) -> str:
        """The first word of what is to be run; of `make`, the target too."""
        words = [word for word in self.text.split() if "=" not in word]
        return " ".join(words[: 2 if words[:1] == ["make"] else 1])


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> Iterator[Block]:
    """Every block of a page, in order."""
    text = page.read_text()
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        body = textwrap.dedent(found["text"])
        yield Block(name_of(page), line, found["language"], found["title"] or "", body)
