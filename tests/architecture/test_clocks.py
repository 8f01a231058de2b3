"""No executor decides by its own wall clock: `DatabaseClock` tells the time, `monotonic` measures.

The rhythm looks at the wall clock, because APScheduler plans by it and it may be set; a gauge tells
how far off it is.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MAY_LOOK = {"executor_service/rhythm.py", "executor_service/gauges.py"}
# Of the modules that know the wall clock, what tells nothing of it.
HARMLESS = {
    "time": {"monotonic", "monotonic_ns", "perf_counter", "sleep", "struct_time"},
    "datetime": {"UTC", "date", "datetime", "time", "timedelta", "timezone", "tzinfo"},
}
LOOKS = {"now", "utcnow", "today", "localtime", "time_ns", "gmtime"}
# What else is named like that, and is none: the database's clock, and what it said in a row.
OURS = {"clock", "_clock", "head"}


def looks(source: str) -> Iterator[tuple[int, str]]:
    """Where a module could read the wall clock: the line, and what it says there."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                # Under a name of its own a module's every function would be at hand.
                for alias in names:
                    if alias.name.partition(".")[0] in HARMLESS:
                        yield node.lineno, f"import {alias.name}"
            case ast.ImportFrom(module=str(module), names=names) if module in HARMLESS:
                for alias in names:
                    if alias.name not in HARMLESS[module] or alias.asname:
                        yield node.lineno, f"from {module} import {alias.name}"
            case ast.Attribute(value=value, attr=attr) if attr in LOOKS:
                if ast.unparse(value).rpartition(".")[2] not in OURS:
                    yield node.lineno, ast.unparse(node)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "executor_service").rglob("*.py")), ids=lambda path: path.name
)
def test_no_module_of_the_executor_reads_the_wall_clock(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    found = list(looks(path.read_text()))
    if name in MAY_LOOK:
        assert found, f"{name} does not look any more: take it off the list"
    else:
        assert not found, f"{name} may ask DatabaseClock or time.monotonic() instead"


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import time as clock",
        "import datetime",
        "from time import time",
        "from time import monotonic, time_ns",
        "from time import monotonic as now, time as wall",
        "from datetime import datetime as Instant",
        "from datetime import datetime, UTC\nstarted_at = datetime.now(UTC)",
        "from datetime import date\nday = date.today()",
        "now = datetime.now",
        "from email import utils\nutils.localtime()",
    ],
)
def test_every_way_to_read_it_is_found(source: str) -> None:
    assert list(looks(source))


@pytest.mark.parametrize(
    "source",
    [
        "from time import monotonic\nmonotonic()",
        "from datetime import UTC, datetime\ndatetime.fromtimestamp(0, UTC)",
        "self.clock.now()",
        "self._clock.now()",
        "clock.now()",
        "head.now - patience",
    ],
)
def test_what_measures_or_asks_the_database_is_not(source: str) -> None:
    assert not list(looks(source))
