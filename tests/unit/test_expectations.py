"""What an answer is held against, and how JSON is compared with what is expected of it."""

import pytest

from handler_service.expectations import difference, judge
from handler_service.schemas.trials import ExpectIn
from shared.trials import Called

FINE = Called(
    is_delivered=True,
    status=200,
    headers=[("content-type", "text/plain"), ("x-part", "1"), ("x-part", "2")],
    body=b"hello",
    is_whole=True,
    duration_ms=1.0,
    error=None,
)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ({}, {"a": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": {"b": None}}, {"a": {"b": None, "c": []}}),
        ([], []),
        ([{"a": 1}, 2], [{"a": 1, "b": 2}, 2]),
        (1, 1.0),
        (10**30, 10**30),
        (None, None),
        (True, True),
        ("", ""),
    ],
)
def test_json_that_lacks_nothing_is_as_expected(expected: object, found: object) -> None:
    assert difference(expected, found) is None


@pytest.mark.parametrize(
    ("expected", "found", "told"),
    [
        ({"a": 1}, {}, "#/a is missing."),
        ({"a": None}, {}, "#/a is missing."),
        ({"a": {"b/~": 1}}, {"a": {"b/~": 2}}, "#/a/b~1~0: expected 1; found 2."),
        ({}, [], "#: expected an object; found an array."),
        ([], {}, "#: expected an array; found an object."),
        ([1], [1, 2], "#: expected 1 items; found 2."),
        ([1, 2], [2, 1], "#/0: expected 1; found 2."),
        ([{"a": 1}], [{"b": 1}], "#/0/a is missing."),
        (1, True, "#: expected 1; found true."),
        (False, 0, "#: expected false; found 0."),
        (None, False, "#: expected null; found false."),
        ("1", 1, '#: expected "1"; found 1.'),
        (10**30, 10**30 + 1, f"#: expected {10**30}; found {10**30 + 1}."),
        ("a", "b" * 200, '#: expected "a"; found "' + "b" * 99 + "…."),
    ],
)
def test_where_json_first_lacks_something_is_told(
    expected: object, found: object, told: str
) -> None:
    assert difference(expected, found) == told


def met(called: Called = FINE, **expected: object) -> list[bool]:
    return [each.met for each in judge(ExpectIn.model_validate(expected), called)]


def test_each_kind_is_met_or_not() -> None:
    assert met() == []
    assert met(status=200) == met(status=[404, 200]) == [True]
    assert met(status=404) == [False]
    assert met(headers={"X-Part": "2"}) == met(headers={"x-part": "1, 2"}) == [True]
    assert met(headers={"x-part": "3"}) == met(headers={"x-none": "1"}) == [False]
    assert met(body_contains="ell") == met(body_contains="") == [True]
    assert met(body_contains="Ell") == [False]
    assert met(json_subset=None) == [False], "null is expected; hello is no JSON"
    assert met(FINE._replace(body=b"null"), json_subset=None) == [True]
    assert met(FINE._replace(body=b'{"a": NaN}'), json_subset={}) == [False]


def test_an_answer_that_never_came_meets_nothing() -> None:
    nothing = FINE._replace(status=None, headers=[], body=b"")
    expected = {"status": 200, "headers": {"a": ""}, "body_contains": "", "json_subset": None}
    assert met(nothing, **expected) == [False] * 4


def test_json_that_was_cut_off_is_not_compared() -> None:
    assert met(FINE._replace(body=b"1", is_whole=False), json_subset=1) == [False]
    assert met(FINE._replace(is_whole=False), body_contains="hello") == [True]
