"""When the next attempt is, or that there is none."""

import json
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_service.retry import (
    RETRY_AFTER_SECONDS_MAX,
    delay_after,
    is_retried,
    is_too_old,
    next_delay,
    retry_after_seconds,
)
from shared.runs.policy import DEFAULT_POLICY, NO_RETRY, STANDARD_POLICY, RetryPolicy
from tests.claims import a_claim


def test_the_default_waits_5_15_45_135_seconds_and_then_gives_up() -> None:
    delays = [delay_after(DEFAULT_POLICY, attempt, spread=0) for attempt in range(1, 6)]
    assert delays == [5, 15, 45, 135, None]


def test_the_standard_policy_tries_ten_times_over_three_days() -> None:
    delays = [delay_after(STANDARD_POLICY, attempt, spread=0) for attempt in range(1, 11)]
    assert delays == [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400, None]


def test_a_list_is_waited_out_to_the_letter_and_none_is_none() -> None:
    listed = RetryPolicy(max_attempts=3, delays=(1.5, 60.0), jitter=0.0)
    assert [delay_after(listed, attempt) for attempt in (1, 2, 3)] == [1.5, 60.0, None]
    assert delay_after(NO_RETRY, 1) is None


@pytest.mark.parametrize(
    "policy",
    [DEFAULT_POLICY, STANDARD_POLICY, NO_RETRY, RetryPolicy(max_age=60.0, delays=(1.0,), base=2.0)],
)
def test_a_policy_is_read_as_it_was_written(policy: RetryPolicy) -> None:
    document = policy.document()
    assert (document is None) == (policy == DEFAULT_POLICY)
    assert RetryPolicy.read(None if document is None else json.loads(document)) == policy


def stored(policy: RetryPolicy) -> Any:
    document = policy.document()
    return None if document is None else json.loads(document)


def test_no_attempt_begins_after_the_greatest_age_but_the_first() -> None:
    policy = RetryPolicy(max_attempts=9, delays=(10.0,) * 8, jitter=0.0, max_age=60.0)
    claim = a_claim(retry=stored(policy), age_from=1_000_000_000)
    assert next_delay(claim, retry_after=None, now=1_050.0) == 10.0
    assert next_delay(claim, retry_after=None, now=1_050.1) is None
    assert next_delay(claim, retry_after=61.0, now=1_000.0) is None
    assert not is_too_old(claim, policy, 1_060.0)
    assert is_too_old(claim, policy, 1_060.1)
    assert not is_too_old(claim, DEFAULT_POLICY, 1e12)


def test_what_the_receiver_asks_for_counts_instead_of_the_policy() -> None:
    claim = a_claim(attempt=4)
    assert next_delay(claim, retry_after=7.0, now=0.0) == 7.0
    assert next_delay(claim._replace(attempt=5), retry_after=7.0, now=0.0) is None


def test_attempts_made_before_a_replay_are_forgiven() -> None:
    replayed = a_claim(attempt=6, attempts_forgiven=5)
    delay = next_delay(replayed, retry_after=None, now=0.0)
    assert delay is not None
    assert 4.0 <= delay <= 6.0  # as after a first attempt
    assert next_delay(replayed._replace(attempt=10), retry_after=None, now=0.0) is None


@given(attempt=st.integers(1, 50), spread=st.floats(-1, 1))
def test_a_delay_stays_within_its_jitter_and_its_maximum(attempt: int, spread: float) -> None:
    policy = RetryPolicy(max_attempts=100, base=2, factor=2, max_delay=60, jitter=0.2)
    delay = delay_after(policy, attempt, spread=spread)
    plain = min(2 * 2 ** (attempt - 1), 60)
    assert delay is not None
    assert 0.8 * plain - 1e-9 <= delay <= 1.2 * plain + 1e-9


def test_delays_differ_so_that_a_herd_does_not_come_back_as_one() -> None:
    assert len({delay_after(DEFAULT_POLICY, 1) for _ in range(50)}) > 40


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
