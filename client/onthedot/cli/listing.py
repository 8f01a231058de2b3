"""Lists: as many as are asked for, as a table or a line of JSON each."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from onthedot.cli.session import Session
from onthedot.models import Answer

Item = TypeVar("Item", bound=Answer)
LIMIT = 50
PAGE_SIZE_MAX = 200


def page_size(limit: int, *, is_all: bool) -> int:
    """How many to fetch at a time."""
    return PAGE_SIZE_MAX if is_all else min(limit + 1, PAGE_SIZE_MAX)


def show(
    session: Session,
    items: Iterable[Item],
    columns: Sequence[str],
    row: Callable[[Item], Sequence[object]],
    *,
    limit: int,
    is_all: bool,
) -> None:
    """Print items; say on stderr that there are more."""
    output = session.output
    iterator = iter(items)
    shown = iterator if is_all else islice(iterator, limit)
    if output.is_json:
        for item in shown:
            output.document(item.document())
    elif is_all:
        _in_pieces(session, shown, columns, row)
    else:
        output.table(columns, [row(item) for item in shown])
    if not is_all and next(iterator, None) is not None:
        output.say(f"There are more than {limit}: --limit, or --all.")


def _in_pieces(
    session: Session,
    items: Iterator[Item],
    columns: Sequence[str],
    row: Callable[[Item], Sequence[object]],
) -> None:
    """Print a table for each thousand, so that a million need no memory."""
    piece = list(islice(items, 1_000))
    session.output.table(columns, [row(item) for item in piece])
    while piece := list(islice(items, 1_000)):
        session.output.table(columns, [row(item) for item in piece])
