"""One local time as an instant, by the same rules as those of a recurrence."""

from datetime import UTC, datetime

from shared.recurrence.rule import Fold, Gap
from shared.recurrence.wall_clock import CHANGE_MAX, land, zone_named


def instant_of(wall: datetime, timezone: str, *, gap: Gap, fold: Fold) -> datetime | None:
    """Answer the UTC instant at which the clocks of a zone show a naive local time.

    None: the clocks skip it, and `gap` drops what they skip. A time that comes twice means the
    first of both unless `fold` is the second. Raises InvalidRule for an unknown zone.
    """
    whole = wall.replace(microsecond=0, fold=0)
    try:
        landings = land(
            lambda low: whole if low <= whole else None,
            zone_named(timezone),
            whole - CHANGE_MAX,
            gap=gap,
            fold=fold,
        )
        at = next(landings).at
    except OverflowError:
        return None
    return None if at is None else at.replace(microsecond=wall.microsecond, tzinfo=UTC)
