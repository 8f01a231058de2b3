"""What is shown is compared so that a difference that matters is seen."""

from typing import Any

import pytest

from tests.docs.shape import mask, names_in, unlike


@pytest.mark.parametrize(
    ("shown", "actual"),
    [
        ({"id": 42, "at": "2026-11-26T12:00:00.000Z"}, {"id": 7, "at": "2027-01-02T03:04:05.678Z"}),
        ({"a": None, "…": "…"}, {"a": None, "b": 1}),
        (["…", {"met": True}], [0, {"met": True}]),
        ([1, "…"], [1, 2, 3]),
        ({"lateness_ms": 1.5}, {"lateness_ms": 3}),
    ],
)
def test_numbers_and_names_may_differ(shown: Any, actual: Any) -> None:
    assert not list(unlike(shown, actual))


@pytest.mark.parametrize(
    ("shown", "actual"),
    [
        ({"a": 1}, {"a": "1"}),
        ({"a": None}, {"a": 1}),
        ({"a": True}, {"a": False}),
        ({"a": True}, {"a": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "…": "…"}, {"b": 2}),
        ({"a": []}, {"a": [1]}),
        ([1, 2, "…"], [1]),
        ({"status": 404}, {"status": 409}),
        ({"error": "timeout: 15 s"}, {"error": "connect: 15 s"}),
        ({"a": {}}, {"a": None}),
    ],
)
def test_keys_kinds_and_words_may_not(shown: Any, actual: Any) -> None:
    assert list(unlike(shown, actual))


def test_a_page_goes_on_with_the_names_that_it_was_told() -> None:
    shown = {"data": [{"job_id": 42, "state": "failed", "replay": "/dead-letters/42/x/replay"}]}
    actual = {"data": [{"job_id": 7, "state": "failed", "replay": "/dead-letters/7/y/replay"}]}
    assert dict(names_in(shown, actual)) == {
        "42": "7",
        "/dead-letters/42/x/replay": "/dead-letters/7/y/replay",
    }


def test_a_line_is_compared_without_what_differs_each_time() -> None:
    one = "webhook-id: run_1_1795233941243522  late: 1.5 ms  attempt: 1"
    assert mask(one) == mask(one.replace("1.5", "23.0").replace("17952", "18"))
    assert mask(one) != mask(one.replace("late", "early"))
