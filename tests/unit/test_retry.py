"""When the next attempt is, or that there is none."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_service.retry import (
    DEFAULT_POLICY,
    RETRY_AFTER_SECONDS_MAX,
    RetryPolicy,
    is_retried,
    retry_after_seconds,
)


def test_the_default_waits_5_15_45_135_seconds_and_then_gives_up() -> None:
    delays = [DEFAULT_POLICY.delay_after(attempt, spread=0) for attempt in range(1, 6)]
    assert delays == [5, 15, 45, 135, None]


@given(attempt=st.integers(1, 50), spread=st.floats(-1, 1))
def test_a_delay_stays_within_its_jitter_and_its_maximum(attempt: int, spread: float) -> None:
    policy = RetryPolicy(max_attempts=100, base=2, factor=2, max_delay=60, jitter=0.2)
    delay = policy.delay_after(attempt, spread=spread)
    plain = min(2 * 2 ** (attempt - 1), 60)
    assert delay is not None
    assert 0.8 * plain - 1e-9 <= delay <= 1.2 * plain + 1e-9


def test_delays_differ_so_that_a_herd_does_not_come_back_as_one() -> None:
    assert len({DEFAULT_POLICY.delay_after(1) for _ in range(50)}) > 40


@pytest.mark.parametrize(
    ("status", "retried"),
    [
        *[(status, True) for status in (301, 302, 308, 408, 425, 429, 500, 502, 503, 504, 599)],
        *[(status, False) for status in (400, 401, 403, 404, 405, 409, 410, 413, 422, 499)],
    ],
)
def test_only_an_answer_that_may_change_is_tried_again(status: int, retried: bool) -> None:
    assert is_retried(status) is retried


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("999999999", RETRY_AFTER_SECONDS_MAX),
        (formatdate(1_000_060, usegmt=True), 60.0),
        (formatdate(999_000, usegmt=True), 0.0),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("nan", None),
        ("9" * 400, None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(
    header: str | None, seconds: float | None
) -> None:
    assert retry_after_seconds(header, now=1_000_000.0) == seconds
