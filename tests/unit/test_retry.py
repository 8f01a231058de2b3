"""When the next attempt is, or that there is none."""

import json
import time
from collections.abc import Iterator
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
    [
        DEFAULT_POLICY,
        STANDARD_POLICY,
        NO_RETRY,
        RetryPolicy(max_attempts=2, max_age=60.0, delays=(1.0,), base=2.0),
    ],
)
def test_a_policy_is_read_as_it_was_written(policy: RetryPolicy) -> None:
    document = policy.document()
    assert (document is None) == (policy == DEFAULT_POLICY)
    assert RetryPolicy.read(None if document is None else json.loads(document)) == policy


@pytest.mark.parametrize(
    ("document", "policy"),
    [
        ({}, DEFAULT_POLICY),
        ({"name_of_a_later_version": [1]}, DEFAULT_POLICY),
        ({"max_attempts": 3, "base": 1, "later": None}, RetryPolicy(max_attempts=3, base=1)),
        ({"max_attempts": 2, "delays": [7], "jitter": 0}, RetryPolicy(2, delays=(7,), jitter=0)),
        ({"max_attempts": 1, "delays": []}, RetryPolicy(1, delays=())),
        ({"max_attempts": 2, "delays": [1, 2, 3]}, RetryPolicy(2, delays=(1, 2, 3))),
        ({"max_attempts": 100, "factor": 100}, RetryPolicy(100, factor=100)),
    ],
)
def test_a_policy_is_read_by_the_names_that_are_known(
    document: dict[str, Any], policy: RetryPolicy
) -> None:
    assert RetryPolicy.read(document) == policy


@pytest.mark.parametrize(
    "document",
    [
        *["none", "", 5, 0, True, False, [], [1, 2]],
        *[{"max_attempts": value} for value in (0, -1, 101, None, "3", [3])],
        *[{"base": value} for value in (None, -1, 1e300, 10**400, "5", [5], float("nan"))],
        *[{"max_delay": value} for value in (None, -1, 2_592_001, float("inf"))],
        *[{"factor": value} for value in (None, 0.5, 101, 1e300, "3")],
        *[{"jitter": value} for value in (None, -0.1, 2, float("nan"))],
        *[{"max_age": value} for value in (0, -1, "60", [60], float("nan"))],
        {"delays": []},
        {"max_attempts": 4, "delays": [1, 2]},
        *[{"max_attempts": 2, "delays": value} for value in (5, "5", [None], [-1], ["1"], [1e9])],
        {"max_attempts": 2, "delays": {"1": 1}},
    ],
)
def test_what_no_version_can_have_written_is_no_policy(document: Any) -> None:
    with pytest.raises(ValueError, match=r"not a (sound )?retry policy"):
        RetryPolicy.read(document)


NUMBER = st.floats(0, 1) | st.floats(1, 100) | st.floats()


@given(
    policy=st.builds(
        dict,
        max_attempts=st.integers(0, 101) | st.integers(1, 5),
        base=NUMBER,
        factor=NUMBER,
        max_delay=NUMBER,
        jitter=NUMBER,
        delays=st.none() | st.lists(NUMBER, max_size=5),
    ),
    attempt=st.integers(1, 101),
)
def test_a_policy_that_was_read_answers_for_every_attempt(
    policy: dict[str, Any], attempt: int
) -> None:
    try:
        read = RetryPolicy.read(policy)
    except ValueError:
        return
    delay = delay_after(read, attempt)
    assert (delay is None) == (attempt >= read.max_attempts)
    assert delay is None or 0 <= delay <= 2 * 30 * 86_400


def stored(policy: RetryPolicy) -> Any:
    document = policy.document()
    return None if document is None else json.loads(document)


def test_no_attempt_begins_after_the_greatest_age_but_the_first() -> None:
    policy = RetryPolicy(max_attempts=9, delays=(10.0,) * 8, jitter=0.0, max_age=60.0)
    claim = a_claim(retry=stored(policy), instant=1_000_000_000)
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
        ("9" * 400, RETRY_AFTER_SECONDS_MAX),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(
    header: str | None, seconds: float | None
) -> None:
    assert retry_after_seconds(header, now=1_000_000.0) == seconds


@pytest.fixture(params=["UTC", "Asia/Tokyo", "America/New_York", "XXX-13:30"])
def local_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What the machine takes for its own time."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield request.param
    time.tzset()


@pytest.mark.usefixtures("local_zone")
@pytest.mark.parametrize(
    "header",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 -0000",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 09:49:37 +0100",
    ],
)
def test_a_date_without_a_zone_is_in_utc_wherever_we_run(header: str) -> None:
    """The three forms of RFC 9110, 5.6.7, and what mail made of them."""
    assert retry_after_seconds(header, now=784_111_717.0) == 60.0
