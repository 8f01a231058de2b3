"""An executor whose wall clock is wrong by as many seconds as a file says, read at every look.

`python -m tests.skewed_executor`, with the file's path in SKEW_FILE; otherwise an executor like any
other. It shifts what Python tells of the wall clock, to our code and to the libraries alike:
`time.time()`, `time.time_ns()`, and `now`, `utcnow` and `today` of `datetime`. It does not shift
the monotonic clock, nor what compiled code reads by itself: whether a certificate is valid today is
still judged by the true clock, and so are the timestamps of files. Postgres runs elsewhere.
"""

import datetime as dt
import os
import sys
import time
from pathlib import Path

_true_time = time.time
_TrueDatetime = dt.datetime
_SKEW_FILE = Path(os.environ["SKEW_FILE"])  # noqa: TID251  # a test's own


def _skew_seconds() -> float:
    return float(_SKEW_FILE.read_text())


def _time() -> float:
    return _true_time() + _skew_seconds()


def _time_ns() -> int:
    return int(_time() * 1e9)


class _AnyDatetime(type(_TrueDatetime)):  # type: ignore[misc]
    """Instants that compiled code makes are of the true class; they are datetimes all the same."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _TrueDatetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _TrueDatetime)


class _SkewedDatetime(_TrueDatetime, metaclass=_AnyDatetime):
    __slots__ = ()  # of the true one's size, which compiled code compares

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
        return _TrueDatetime.fromtimestamp(_time(), tz)

    @classmethod
    def utcnow(cls) -> dt.datetime:
        return _TrueDatetime.fromtimestamp(_time(), dt.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> dt.datetime:
        return _TrueDatetime.fromtimestamp(_time())  # without a time zone, as today() is


def skew() -> None:
    """Set this process's clock; to be called before anything is imported that reads it."""
    _SkewedDatetime.__name__ = _SkewedDatetime.__qualname__ = "datetime"
    _SkewedDatetime.__module__ = "datetime"
    time.time, time.time_ns = _time, _time_ns
    dt.datetime = _SkewedDatetime  # type: ignore[misc]


if __name__ == "__main__":
    skew()
    from executor_service.__main__ import main

    sys.exit(main())
