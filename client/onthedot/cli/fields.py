"""The options that stand for fields of the API, and are the same in several commands."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from onthedot.cli import values
from onthedot.cli.command import Shared

CALL = "The call"
WHEN = "When: one of --in, --at, --cron, --every, --rrule; or at once"
POLICY = "How it is delivered"
FIND = "To find it by"


class Method(StrEnum):
    """The methods that a job may call with."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"
    HEAD = "HEAD"


class Delivery(StrEnum):
    """What to do when nobody knows whether a request was processed."""

    AT_LEAST_ONCE = "at_least_once"
    AT_MOST_ONCE = "at_most_once"


class CatchUp(StrEnum):
    """What becomes of missed occurrences."""

    ONE = "one"
    ALL = "all"
    NONE = "none"


class Overlap(StrEnum):
    """What an occurrence does while the one before goes on."""

    ALLOW = "allow"
    SKIP = "skip"
    QUEUE = "queue"


class Status(StrEnum):
    """Where the newest run of a job stands."""

    UPCOMING = "upcoming"
    EXECUTING = "executing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class Order(StrEnum):
    """By the instant of a list."""

    ASC = "asc"
    DESC = "desc"


class Gap(StrEnum):
    """What a local time does that the clocks skip."""

    AFTER = "after"
    SKIP = "skip"


class Fold(StrEnum):
    """Which instant counts of a local time that comes twice."""

    FIRST = "first"
    SECOND = "second"
    BOTH = "both"


def _option(
    field: str,
    flag: str,
    kind: Any,
    help_text: str,
    panel: str,
    *,
    metavar: str | None = None,
    parser: Callable[[str], Any] | None = None,
) -> Shared:
    option = typer.Option(
        flag, help=help_text, rich_help_panel=panel, metavar=metavar, parser=parser
    )
    return Shared(f"said_{field}", Annotated[kind, option], field)


def _duration(field: str, flag: str, help_text: str, panel: str) -> Shared:
    return _option(field, flag, Any, help_text, panel, metavar="DURATION", parser=values.duration)


def _instant(field: str, flag: str, help_text: str, panel: str) -> Shared:
    return _option(
        field, flag, str | None, help_text, panel, metavar="INSTANT", parser=values.instant
    )


def _text(field: str, flag: str, help_text: str, panel: str, metavar: str) -> Shared:
    return _option(field, flag, str | None, help_text, panel, metavar=metavar)


REQUEST = (
    _option("method", "--method", Method | None, "The method to call with.", CALL),
    _option(
        "headers",
        "--header",
        list[str] | None,
        "A header to send; again for more.",
        CALL,
        metavar="'NAME: VALUE'",
    ),
    _option(
        "payload",
        "--payload",
        Any,
        "What to send: JSON, or @ and a file of it.",
        CALL,
        metavar="JSON",
        parser=values.payload,
    ),
    _duration("timeout", "--timeout", "How long one attempt may take.", CALL),
)
WEBHOOK = (
    *REQUEST,
    _option(
        "retry",
        "--retry",
        Any,
        "When to try again: none, standard, waits such as 5s,1m,1h, or a backoff in JSON.",
        POLICY,
        metavar="POLICY",
        parser=values.retry,
    ),
    _option(
        "delivery",
        "--delivery",
        Delivery | None,
        "What to do when nobody knows whether it was processed.",
        POLICY,
    ),
    _duration("max_lateness", "--max-lateness", "Skip a run that would be later.", POLICY),
    _text("user", "--user", "Whose it is.", FIND, "USER"),
    _option(
        "labels",
        "--label",
        list[str] | None,
        "A label; again for more.",
        FIND,
        metavar="NAME:VALUE",
    ),
)
KEY = (_text("key", "--key", "A name of your own, unique.", FIND, "KEY"),)
TIMES = (
    _duration("delay", "--in", "After so long.", WHEN),
    _instant("run_at", "--at", "At an instant, or at a local time of --timezone.", WHEN),
    _text("cron", "--cron", "By a cron expression, of 5 fields or 6.", WHEN, "CRON"),
    _duration("every", "--every", "At an interval.", WHEN),
    _text("rrule", "--rrule", "By a rule of RFC 5545.", WHEN, "RRULE"),
    _text("timezone", "--timezone", "Whose clocks it goes by.", WHEN, "ZONE"),
    _instant("anchor", "--anchor", "From when the interval or rule counts.", WHEN),
    _instant("starts_at", "--starts-at", "Not before this.", WHEN),
    _instant("ends_at", "--ends-at", "Not after this.", WHEN),
    _option("max_runs", "--max-runs", int | None, "So often at most.", WHEN, metavar="COUNT"),
    _duration("jitter", "--jitter", "Spread over so long.", WHEN),
    _option("catch_up", "--catch-up", CatchUp | None, "What becomes of missed occurrences.", WHEN),
    _option(
        "overlap",
        "--overlap",
        Overlap | None,
        "What an occurrence does while the one before goes on.",
        WHEN,
    ),
    _option("gap", "--dst-gap", Gap | None, "A local time that the clocks skip.", WHEN),
    _option("fold", "--dst-fold", Fold | None, "A local time that comes twice.", WHEN),
)
JOB = (*TIMES, *WEBHOOK, *KEY)
_FILTER = "Filters: what fits all of them"
BETWEEN = (
    _instant("from_", "--from", "At this instant or later: RFC 3339, now, -2h, +1d.", _FILTER),
    _instant("to", "--to", "Before this instant.", _FILTER),
)
JOB_FILTERS = (
    _option("status", "--status", Status | None, "Where its newest run stands.", _FILTER),
    _text("user", "--user", "Whose it is.", _FILTER, "USER"),
    _text("key", "--key", "Its key.", _FILTER, "KEY"),
    _option(
        "labels",
        "--label",
        list[str] | None,
        "A label; again for more.",
        _FILTER,
        metavar="NAME:VALUE",
    ),
    _text("host", "--host", "The host that is called.", _FILTER, "HOST"),
    *BETWEEN,
)
Job = Annotated[str, typer.Argument(metavar="JOB", help="Its id, or its key; `key:7` is a key.")]
Url = Annotated[str, typer.Argument(metavar="URL", help="What to call.")]
IdempotencyKey = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        metavar="KEY",
        parser=values.idempotency_key,
        help="Whoever says it again gets the first answer, and nothing is done twice.",
    ),
]
Limit = Annotated[
    int, typer.Option("--limit", min=1, metavar="COUNT", help="Show so many at most.")
]
All = Annotated[bool, typer.Option("--all", help="Show all of them.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def job(said: dict[str, Any]) -> dict[str, Any]:
    """Make fields of a job, or filters of jobs, of what was said."""
    fields = {name: _plain(value) for name, value in said.items()}
    if "headers" in fields:
        fields["headers"] = values.headers(fields["headers"])
    if "labels" in fields:
        fields["labels"] = values.labels(fields["labels"])
    dst = {name: fields.pop(name) for name in ("gap", "fold") if name in fields}
    return fields | ({"dst": dst} if dst else {})


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, (StrEnum, values.Payload)) else value
