"""`make docs`: writes `onthedot/synchronous` anew, from `onthedot/asynchronous`.

The two differ by a few words, so one is written by hand and the other by this.
"""

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parent / "onthedot"
NOTE = "# Made by `make docs` from asynchronous/{source}: change that one.\n"
WORDS = {
    "AsyncClient": "Client",
    "AsyncIterator": "Iterator",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "aclose": "close",
    "aiter_bytes": "iter_bytes",
    "aread": "read",
    "asynccontextmanager": "contextmanager",
    "asynchronous": "synchronous",
    "asyncio": "time",
}
_WORD = re.compile(r"\b(async |await )|\b\w+\b")
_OURS = re.compile(r"Async[A-Z]\w+")


def synchronous(source: Path) -> str:
    """Answer a module of `asynchronous` for code that waits."""
    text = _WORD.sub(_translated, source.read_text())
    if source.name == "__init__.py":
        text = '"""The client for code that waits; made from `onthedot.asynchronous`."""\n'
    note = NOTE.format(source=source.name)
    return _formatted(note + text, source.name)


def _translated(found: re.Match[str]) -> str:
    word = found[0]
    if found[1]:
        return ""
    if word in WORDS:
        return WORDS[word]
    return word.removeprefix("Async") if _OURS.fullmatch(word) else word


def _formatted(text: str, name: str) -> str:
    """Sort imports, write `yield from` where that is possible now, and break lines."""
    ruff = [sys.executable, "-m", "ruff"]
    place = ["--stdin-filename", str(PACKAGE / "synchronous" / name), "-"]
    mend = ["check", "--quiet", "--fix-only", "--unsafe-fixes", "--select", "I,UP028"]
    for command in (mend, ["format", "--quiet"]):
        done = subprocess.run(
            [*ruff, *command, *place], input=text, capture_output=True, text=True, check=True
        )
        text = done.stdout
    return text


def made() -> dict[Path, str]:
    """Answer every file of `synchronous`, as it should be."""
    sources = sorted((PACKAGE / "asynchronous").glob("*.py"))
    return {PACKAGE / "synchronous" / each.name: synchronous(each) for each in sources}


if __name__ == "__main__":
    (PACKAGE / "synchronous").mkdir(exist_ok=True)
    for path, text in made().items():
        path.write_text(text)
