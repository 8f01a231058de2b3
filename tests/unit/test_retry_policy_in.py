"""Which retry policies are taken, as what they are kept, and where the others are at fault."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from handler_service import violations
from handler_service.schemas.retry import BackoffIn
from handler_service.schemas.timers import TimerBatchIn, TimerIn
from shared.runs.policy import DEFAULT_POLICY, NO_RETRY, STANDARD_POLICY, RetryPolicy

DAYS_30 = 30 * 86_400
DAYS_366 = 366 * 86_400


def timer(**fields: Any) -> TimerIn:
    return TimerIn.model_validate({"hours": 1, "url": "https://example.com/", **fields})


def faults(retry: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as refusal:
        timer(retry=retry)
    found = violations.in_body(refusal.value.errors(include_url=False, include_input=False))
    assert len({fault.pointer for fault in found}) == len(found)
    return dict(found)


@pytest.mark.parametrize(
    ("retry", "policy"),
    [
        ({}, RetryPolicy()),
        ({"max_attempts": 1}, RetryPolicy(max_attempts=1)),
        ({"max_attempts": 100}, RetryPolicy(max_attempts=100)),
        ({"backoff": "exponential", "base": 0.001}, RetryPolicy(base=0.001)),
        ({"base": "PT0.5S"}, RetryPolicy(base=0.5)),
        ({"base": DAYS_30, "max_delay": "P30D"}, RetryPolicy(base=DAYS_30, max_delay=DAYS_30)),
        ({"factor": 1}, RetryPolicy(factor=1.0)),
        ({"factor": 100.0}, RetryPolicy(factor=100.0)),
        ({"jitter": 0}, RetryPolicy(jitter=0.0)),
        ({"jitter": 1}, RetryPolicy(jitter=1.0)),
        ({"max_age": None}, RetryPolicy(max_age=None)),
        ({"max_age": "P366D"}, RetryPolicy(max_age=DAYS_366)),
        ({"max_age": 0.5}, RetryPolicy(max_age=0.5)),
        ([0], RetryPolicy(max_attempts=2, delays=(0.0,), jitter=0.0)),
        ([5, "PT1M", 0.5], RetryPolicy(max_attempts=4, delays=(5.0, 60.0, 0.5), jitter=0.0)),
        (["P30D"] * 99, RetryPolicy(max_attempts=100, delays=(DAYS_30,) * 99, jitter=0.0)),
        ("standard", STANDARD_POLICY),
        ("none", NO_RETRY),
    ],
)
def test_a_policy_is_kept_as_it_was_meant(retry: Any, policy: RetryPolicy) -> None:
    read = timer(retry=retry).retry
    assert read == policy
    document = read.document()
    assert RetryPolicy.read(None if document is None else json.loads(document)) == policy


def test_what_is_left_out_is_the_default_policy_which_is_kept_as_nothing() -> None:
    assert timer().retry == timer(retry={}).retry == DEFAULT_POLICY
    assert timer().retry.document() is None
    whole = BackoffIn().model_dump()
    assert timer(retry=whole).retry.document() is None
    assert whole == {
        "max_attempts": 5,
        "backoff": "exponential",
        "base": 5,
        "factor": 3,
        "max_delay": 3600,
        "jitter": 0.2,
        "max_age": None,
    }


REFUSED: list[tuple[Any, str]] = [
    *((retry, "") for retry in (None, True, 5, 5.5, "", "never", "Standard", "NONE", "PT5S")),
    *((retry, "") for retry in ([], [0] * 100, {f"f{n}": n for n in range(60)})),
    *(([1, delay], "/1") for delay in (-1, -0.001, None, True, "1", "P1M", [], {}, "PT", 1e999)),
    *(([1, delay], "/1") for delay in (DAYS_30 + 1, "P31D", 10**400, -(10**400))),
    *(({"max_attempts": n}, "/max_attempts") for n in (0, -1, 101, 5.0, "5", True, None, 10**30)),
    *(({"backoff": name}, "/backoff") for name in ("linear", "Exponential", "", None, 5)),
    *(({"base": base}, "/base") for base in (0, -1, None, "5", True, [], DAYS_30 + 0.5, "PT0S")),
    *(({"max_delay": wait}, "/max_delay") for wait in (0, -1, None, "x", "P31D", 10**400)),
    *(({"factor": factor}, "/factor") for factor in (0, 0.99, 101, "3", None, True, 10**400)),
    *(({"jitter": jitter}, "/jitter") for jitter in (-0.1, 1.1, "0", None, False, 1e999)),
    *(({"max_age": age}, "/max_age") for age in (0, -1, DAYS_366 + 1, "P367D", "x", True, [])),
    *(({name: 5}, f"/{name}") for name in ("delays", "Base", "maxAttempts", "", "attempts")),
]


@pytest.mark.parametrize(("retry", "place"), REFUSED)
def test_one_fault_is_told_once_and_in_its_place(retry: Any, place: str) -> None:
    found = faults(retry)
    assert list(found) == [f"#/retry{place}"]
    [detail] = found.values()
    assert detail[0].isupper()
    assert detail.endswith(".")


def test_every_fault_of_an_object_is_told() -> None:
    found = faults({"max_attempts": 0, "base": "x", "factor": 0, "more": 1, "max_age": -1})
    assert sorted(found) == [
        f"#/retry/{name}" for name in ("base", "factor", "max_age", "max_attempts", "more")
    ]


def test_of_a_list_the_first_fault_is_told() -> None:
    assert list(faults([1, -1, "x", None])) == ["#/retry/1"]


def test_a_limit_is_told_as_people_write_it() -> None:
    assert faults({"base": DAYS_30 + 1})["#/retry/base"] == "Must be 2592000 or less."
    assert faults({"base": 0})["#/retry/base"] == "Must be more than 0."


def test_in_a_batch_a_fault_is_named_with_its_timer() -> None:
    fine = {"hours": 1, "url": "https://example.com/"}
    bad = [{**fine, "retry": {"base": 0}}, fine, {**fine, "retry": [True]}, {**fine, "retry": 5}]
    with pytest.raises(ValidationError) as refusal:
        TimerBatchIn.model_validate({"timers": bad})
    assert [fault.pointer for fault in violations.in_body(refusal.value.errors())] == [
        "#/timers/0/retry/base",
        "#/timers/2/retry/0",
        "#/timers/3/retry",
    ]


@pytest.mark.parametrize("delivery", ["", "at-most-once", "AT_MOST_ONCE", "exactly_once", None, 5])
def test_a_delivery_is_one_of_two_words(delivery: Any) -> None:
    with pytest.raises(ValidationError) as refusal:
        timer(delivery=delivery)
    [fault] = violations.in_body(refusal.value.errors())
    assert fault == ("#/delivery", "Must be 'at_least_once' or 'at_most_once'.")
