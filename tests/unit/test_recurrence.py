"""When a job occurs: the known traps one by one, and what is kept, refused, and left out."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.recurrence import (
    CatchUp,
    Fold,
    Gap,
    InvalidRule,
    Overlap,
    Recurrence,
    check,
    last_within,
    next_after,
    occurrences,
    preview,
)

NEW_YORK = "America/New_York"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FAR = datetime(9999, 1, 1, tzinfo=UTC)
# Of the jobs 1, 2 and 3 within a minute, as the first version spread them.
SPREADS = [37.082039206288755, 14.16407841257751, 51.246117618866265]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def cron(expression: str, timezone: str = "UTC", **more: Any) -> Recurrence:
    return Recurrence(cron=expression, timezone=timezone, **more)


def rows(rule: Recurrence, after: str, count: int) -> list[str]:
    """Each as the instant (or none), the local time, and the mark."""
    return [
        f"{f'{row.at:%d %H:%M}' if row.at else '-'} | {row.local:%d %H:%M} | {row.note}"
        for row in preview(rule, utc(after), count=count)
    ]


@pytest.mark.parametrize(
    ("fold", "expected"),
    [
        (Fold.FIRST, ["01 05:30 | 01 01:30 | None", "02 06:30 | 02 01:30 | None"]),
        (Fold.SECOND, ["01 06:30 | 01 01:30 | None", "02 06:30 | 02 01:30 | None"]),
        (Fold.BOTH, ["01 05:30 | 01 01:30 | None", "01 06:30 | 01 01:30 | doubled"]),
    ],
)
def test_a_daily_job_in_the_repeated_hour_runs_once_unless_asked(
    fold: Fold, expected: list[str]
) -> None:
    assert rows(cron("30 1 * * *", NEW_YORK, fold=fold), "2026-10-31T12:00", 2) == expected


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (Gap.AFTER, ["08 07:00 | 08 02:15 | shifted", "09 06:15 | 09 02:15 | None"]),
        (Gap.SKIP, ["- | 08 02:15 | dropped", "- | 08 02:30 | dropped"]),
    ],
)
def test_what_the_clocks_skip_runs_once_at_the_end_of_the_gap_or_is_dropped(
    gap: Gap, expected: list[str]
) -> None:
    assert rows(cron("15,30 2 * * *", NEW_YORK, gap=gap), "2026-03-07T12:00", 2) == expected


def test_a_job_due_at_the_end_of_the_gap_does_not_run_twice_there() -> None:
    rule = cron("0 2,3 * * *", NEW_YORK)
    found = occurrences(rule, utc("2026-03-08T05:00"), until=utc("2026-03-09"), most=9)
    assert found == [utc("2026-03-08T07:00")]
    assert rows(rule, "2026-03-08T05:00", 2) == [
        "08 07:00 | 08 02:00 | shifted",
        "09 06:00 | 09 02:00 | None",
    ]


@pytest.mark.parametrize("fold", [Fold.SECOND, Fold.BOTH])
def test_a_yearly_job_does_not_miss_the_second_of_its_hours(fold: Fold) -> None:
    rule = cron("30 1 1 11 *", NEW_YORK, fold=fold)
    assert next_after(rule, utc("2026-11-01T05:45")) == utc("2026-11-01T06:30")
    assert next_after(rule, utc("2026-11-01T06:30")) == utc("2027-11-01T05:30")


def test_jobs_with_wildcards_follow_real_time() -> None:
    assert rows(cron("*/30 * * * *", NEW_YORK), "2026-11-01T04:45", 5) == [
        "01 05:00 | 01 01:00 | None",
        "01 05:30 | 01 01:30 | None",
        "01 06:00 | 01 01:00 | doubled",
        "01 06:30 | 01 01:30 | doubled",
        "01 07:00 | 01 02:00 | None",
    ]
    assert rows(cron("*/30 * * * *", NEW_YORK), "2026-03-08T06:15", 2) == [
        "08 06:30 | 08 01:30 | None",
        "08 07:00 | 08 03:00 | None",
    ]


def test_within_the_repeated_hour_the_next_is_later_than_the_last() -> None:
    """cronsim, given a local time that comes twice, can answer an instant not after its base."""
    at = utc("2026-11-01T04:59:59")
    seen = []
    for _ in range(13):
        following = next_after(cron("*/10 * * * *", NEW_YORK), at)
        assert following is not None
        assert following > at
        at = following
        seen.append(at)
    assert seen == [utc("2026-11-01T05:00") + n * timedelta(minutes=10) for n in range(13)]


@pytest.mark.parametrize(
    ("zone", "after", "expected"),
    [
        # Half an hour: 1:45 comes twice, and 2:15 never.
        ("Australia/Lord_Howe", "2026-04-04T06:00", ["04 14:45 | 05 01:45 | None"]),
        ("Australia/Lord_Howe", "2026-10-03T06:00", ["03 15:15 | 04 01:45 | None"]),
        # Two hours at once.
        ("Antarctica/Troll", "2026-03-28T12:00", ["29 01:00 | 29 01:45 | shifted"]),
        # The clocks skip midnight, or go back to the day before.
        ("Asia/Beirut", "2026-03-28T12:00", ["28 22:00 | 29 00:15 | shifted"]),
        ("America/Sao_Paulo", "2018-11-03T12:00", ["04 03:00 | 04 00:15 | shifted"]),
        # The clocks skip a whole day.
        ("Pacific/Apia", "2011-12-29T23:00", ["30 10:00 | 30 12:30 | shifted"]),
    ],
)
def test_unusual_changes(zone: str, after: str, expected: list[str]) -> None:
    times = {"Asia/Beirut": "15 0", "America/Sao_Paulo": "15 0", "Pacific/Apia": "30 12"}
    rule = cron(f"{times.get(zone, '45 1')} * * *", zone)
    assert rows(rule, after, 1) == expected


def test_a_gap_of_days_skips_what_follows_real_time() -> None:
    rule = cron("0 */6 * * *", "Pacific/Apia")
    assert rows(rule, "2011-12-30T03:00", 2) == [
        "30 04:00 | 29 18:00 | None",
        "30 10:00 | 31 00:00 | None",
    ]


@pytest.mark.parametrize(
    ("nickname", "same"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@Midnight", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ],
)
def test_nicknames(nickname: str, same: str) -> None:
    for rule in (cron(nickname), cron(same)):
        check(rule, now=NOW)
    assert [next_after(cron(nickname, NEW_YORK), NOW + n * 9 * DAY) for n in range(50)] == [
        next_after(cron(same, NEW_YORK), NOW + n * 9 * DAY) for n in range(50)
    ]


@pytest.mark.parametrize(
    ("expression", "following"),
    [
        ("30 9 * * MON-FRI", "2026-01-01T09:30"),
        ("30 9 * jan,feb sat", "2026-01-03T09:30"),
        ("0 0 L * *", "2026-01-31T00:00"),
        ("0 0 LW * *", "2026-01-30T00:00"),
        ("0 0 * * FRI#2", "2026-01-09T00:00"),
        ("0 0 * * 5L", "2026-01-30T00:00"),
        ("0 0 * * 7", "2026-01-04T00:00"),
        ("*/20 * * * * *", "2026-01-01T00:00:20"),
        ("15 30 9 * * *", "2026-01-01T09:30:15"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("0 0 13 * FRI", "2026-01-02T00:00"),  # one of the two
        ("0 0 13 * */5", "2026-02-13T00:00"),  # both, as one begins with a star: Sunday or Friday
    ],
)
def test_expressions(expression: str, following: str) -> None:
    check(cron(expression), now=NOW)
    assert next_after(cron(expression), NOW) == utc(following)


@pytest.mark.parametrize(
    ("expression", "remedy"),
    [
        ("", "5 fields"),
        ("* * * *", "not 4"),
        ("* * * * * * *", "not 7"),
        ("@reboot", "at once"),
        ("@fortnightly", "@weekly"),
        ("60 * * * *", "minute `60`"),
        ("* 24 * * *", "hour `24`"),
        ("60 * * * * *", "second `60`"),
        ("0 0 32 * *", "day-of-month `32`"),
        ("0 0 ? * *", "day-of-month `?`"),
        ("0 0 * foo *", "month `foo`"),
        ("0 0 * * 5-1", "day-of-week `5-1`"),
        ("*/0 * * * *", "minute `*/0`"),
        ("٣ * * * *", "minute"),
        ("0 0 31 2 *", "never"),
        ("0 0 30 2 *", "never"),
        ("0 0 31 2,4,6,9,11 *", "never"),
        ("1," * 200 + "1 * * * *", "200 characters"),
        ("9" * 150 + " * * * *", "minute"),
    ],
)
def test_a_cron_expression_is_refused_with_a_remedy(expression: str, remedy: str) -> None:
    with pytest.raises(InvalidRule) as refused:
        check(cron(expression), now=NOW)
    assert refused.value.field == "cron"
    assert remedy in refused.value.message


@given(st.text("0123456789*/-,#LW?MONJAN @", max_size=30))
def test_any_text_is_a_rule_or_an_invalid_one(text: str) -> None:
    try:
        check(cron(text), now=NOW)
    except InvalidRule:
        return
    assert next_after(cron(text), NOW) is not None


@given(st.text("FREQ=DAILYMONTHWKBSECUPV;,0123-+:TZ", max_size=60))
def test_any_text_is_an_rrule_or_an_invalid_one(text: str) -> None:
    for rule in (text, f"FREQ=MONTHLY;{text}"):
        try:
            check(Recurrence(rrule=rule, anchor=NOW), now=NOW)
        except InvalidRule as refused:
            assert refused.field == "rrule"  # noqa: PT017


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("Europe/Berlim", "Europe/Berlin"),
        ("America", "IANA"),
        ("../../etc/passwd", "IANA"),
        ("/etc/localtime", "IANA"),
        ("localtime", "IANA"),
        ("", "IANA"),
        ("A" * 10_000, "IANA"),
        ("Europe/Berlin\x00", "IANA"),
        ("+02:00", "IANA"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest_ones(zone: str, hint: str) -> None:
    with pytest.raises(InvalidRule) as refused:
        check(cron("@daily", zone), now=NOW)
    assert refused.value.field == "timezone"
    assert hint in refused.value.message


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        (Recurrence(), "cron"),
        (Recurrence(cron="@daily", every_seconds=5), "cron"),
        (Recurrence(every_seconds=0.5, anchor=NOW), "every"),
        (Recurrence(every_seconds=float("nan"), anchor=NOW), "every"),
        (Recurrence(every_seconds=float("inf"), anchor=NOW), "every"),
        (Recurrence(every_seconds=1e300, anchor=NOW), "every"),
        (Recurrence(every_seconds=60), "anchor"),
        (Recurrence(rrule="FREQ=DAILY"), "anchor"),
        (Recurrence(rrule="FREQ=DAILY", anchor=NOW.replace(tzinfo=None)), "anchor"),
        (cron("@daily", jitter_seconds=-1), "jitter"),
        (cron("@daily", jitter_seconds=float("nan")), "jitter"),
        (cron("@daily", max_runs=0), "max_runs"),
        (cron("@daily", starts_at=NOW + DAY, ends_at=NOW), "ends_at"),
        (cron("@daily", ends_at=NOW + HOUR), "ends_at"),
        (cron("@daily", ends_at=NOW - DAY), "ends_at"),
        (cron("@daily", ends_at=NOW.replace(tzinfo=None)), "ends_at"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_its_field(rule: Recurrence, field: str) -> None:
    with pytest.raises(InvalidRule) as refused:
        check(rule, now=NOW)
    assert refused.value.field == field


def test_an_interval_is_exact_to_the_microsecond_however_long_it_runs() -> None:
    rule = Recurrence(every_seconds=86_400.1, anchor=NOW)
    check(rule, now=NOW)
    far = NOW + 100_000 * timedelta(days=1, milliseconds=100)
    assert next_after(rule, far - timedelta(microseconds=1)) == far
    assert next_after(rule, far) == far + timedelta(days=1, milliseconds=100)
    # The clocks of no zone matter, nor does the side of the anchor.
    assert next_after(rule, NOW - HOUR) == NOW
    assert next_after(rule, NOW - 2 * DAY) == NOW - timedelta(days=1, milliseconds=100)


@given(every=st.floats(1, 1e7), after=st.integers(-(10**15), 10**15), start=st.integers(0, 10**15))
def test_an_interval_goes_on_from_its_anchor(every: float, after: int, start: int) -> None:
    anchor = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(microseconds=start)
    asked = anchor + timedelta(microseconds=after)
    following = next_after(Recurrence(every_seconds=every, anchor=anchor), asked)
    step = timedelta(microseconds=round(every * 1e6))
    assert following is not None
    assert asked < following <= asked + step
    assert (following - anchor) % step == timedelta()


def test_nothing_occurs_before_the_start_or_after_the_end() -> None:
    rule = cron("0 * * * *", starts_at=NOW + 10 * HOUR, ends_at=NOW + 12 * HOUR)
    check(rule, now=NOW)
    expected = [NOW + 10 * HOUR, NOW + 11 * HOUR, NOW + 12 * HOUR]  # both of them included
    assert occurrences(rule, NOW - 99 * DAY, until=FAR, most=9) == expected
    assert [row.at for row in preview(rule, NOW - 99 * DAY, count=9)] == expected
    assert occurrences(rule, NOW, until=NOW + 11 * HOUR, most=9) == expected[:2]
    assert occurrences(rule, NOW, until=FAR, most=2) == expected[:2]
    assert occurrences(rule, NOW, until=FAR, most=0) == []
    assert next_after(rule, NOW + 12 * HOUR) is None


def test_a_dropped_occurrence_after_the_end_is_not_previewed() -> None:
    rule = cron("30 2 * * *", NEW_YORK, gap=Gap.SKIP, ends_at=utc("2026-03-08T00:00"))
    assert rows(rule, "2026-03-06T12:00", 9) == ["07 07:30 | 07 02:30 | None"]


def test_the_latest_of_a_million_missed_occurrences_is_found_at_once() -> None:
    every_second = Recurrence(every_seconds=1, anchor=NOW)
    assert last_within(every_second, NOW, until=NOW + 20 * DAY + HOUR / 7) == (
        (NOW + 20 * DAY + HOUR / 7).replace(microsecond=0)
    )
    rule = cron("30 9 * * MON-FRI", NEW_YORK)
    until = NOW + 300 * DAY
    assert last_within(rule, NOW, until=until) == occurrences(rule, NOW, until=until, most=999)[-1]
    assert last_within(rule, until, until=until + HOUR) is None
    assert last_within(cron("0 0 * * *"), NOW, until=NOW + DAY) == NOW + DAY


@pytest.mark.parametrize(
    "rule",
    [
        cron("* * * * * *", "Asia/Tokyo"),
        Recurrence(every_seconds=86_400, anchor=NOW),
        Recurrence(rrule="FREQ=DAILY", anchor=NOW),
        Recurrence(rrule="FREQ=YEARLY", anchor=NOW),
        Recurrence(rrule="FREQ=MONTHLY;INTERVAL=5000", anchor=NOW),
        Recurrence(rrule="FREQ=WEEKLY;INTERVAL=10000", anchor=NOW),
    ],
)
def test_time_ends_with_the_year_9999(rule: Recurrence) -> None:
    at = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert next_after(rule, at) is None
    assert preview(rule, at, count=3) == []


FULL = Recurrence(
    cron="0 0 1 1 *",
    timezone="Asia/Gaza",
    anchor=datetime(2026, 1, 1, 2, 3, 4, 567_890, tzinfo=UTC),
    starts_at=NOW,
    ends_at=FAR,
    max_runs=7,
    jitter_seconds=1.5,
    gap=Gap.SKIP,
    fold=Fold.BOTH,
    catch_up=CatchUp.ALL,
    overlap=Overlap.QUEUE,
)


def test_a_document_leaves_out_what_is_left_at_its_default() -> None:
    assert json.loads(cron("@daily").document()) == {"cron": "@daily"}
    assert set(json.loads(FULL.document())) == set(Recurrence.__slots__) - {
        "every_seconds",
        "rrule",
    }
    assert json.loads(FULL.document())["gap"] == "skip"


@pytest.mark.parametrize(
    "rule", [FULL, cron("@daily"), Recurrence(every_seconds=90.25, anchor=NOW)]
)
def test_a_recurrence_is_read_as_it_was_written(rule: Recurrence) -> None:
    document = json.loads(rule.document())
    assert Recurrence.read(document) == rule
    assert Recurrence.read({**document, "name_of_a_later_version": [1]}) == rule
    assert Recurrence.read(document) is Recurrence.read(json.loads(rule.document()))


@pytest.mark.parametrize(
    "document",
    [
        *[None, [], "@daily", 5, {}, {"cron": None}, {"cron": 5}, {"cron": ["* * * * *"]}],
        {"cron": "@daily", "rrule": "FREQ=DAILY"},
        *[{"every_seconds": value} for value in (0, 0.5, -1, True, "60", None, 10**400, 1e300)],
        {"every_seconds": float("nan")},
        *[{"cron": "@daily", "max_runs": value} for value in (0, True, 1.5, "1", None)],
        *[{"cron": "@daily", "jitter_seconds": value} for value in (-1, True, "1", float("nan"))],
        *[{"cron": "@daily", "starts_at": value} for value in ("now", 5, "2026-01-01T00:00:00")],
        *[{"cron": "@daily", name: "other"} for name in ("gap", "fold", "catch_up", "overlap")],
        {"cron": "@daily", "gap": None},
    ],
)
def test_what_no_version_can_have_written_is_no_recurrence(document: Any) -> None:
    Recurrence.read({"cron": "@daily", "max_runs": 1})  # equal to True, and remembered
    with pytest.raises(ValueError, match=r"not a (sound )?recurrence"):
        Recurrence.read(document)


# A jitter is nothing, or a microsecond at least: what is less, no instant can show.
@given(job_id=st.integers(-(2**63), 2**63 - 1), jitter=st.just(0.0) | st.floats(1e-6, 86_400))
def test_a_spread_stays_within_its_jitter(job_id: int, jitter: float) -> None:
    spread = cron("@daily", jitter_seconds=jitter).spread_seconds(job_id)
    assert 0 <= spread <= jitter
    assert spread < jitter or spread == 0


def test_a_spread_is_the_same_in_every_version() -> None:
    rule = cron("@daily", jitter_seconds=60)
    assert [rule.spread_seconds(job_id) for job_id in (1, 2, 3)] == SPREADS
    assert cron("@hourly", timezone="Asia/Gaza", jitter_seconds=60).spread_seconds(1) == SPREADS[0]
    assert cron("@daily").spread_seconds(1) == 0.0


def test_spreads_fill_their_window() -> None:
    rule = cron("@daily", jitter_seconds=10)
    tenths = {int(rule.spread_seconds(job_id)) for job_id in range(200)}
    assert tenths == set(range(10))


@pytest.mark.parametrize(
    "rule",
    [
        cron("*/5 * * * *", NEW_YORK),
        cron("30 9 * * MON-FRI", NEW_YORK),
        Recurrence(rrule="FREQ=DAILY", anchor=NOW, timezone=NEW_YORK),
        Recurrence(rrule="FREQ=MONTHLY;BYDAY=-1FR", anchor=NOW, timezone=NEW_YORK),
        Recurrence(rrule="FREQ=MINUTELY;INTERVAL=5", anchor=NOW, timezone=NEW_YORK),
    ],
)
def test_the_next_is_found_within_a_millisecond_five_years_on(rule: Recurrence) -> None:
    at = NOW + 5 * 366 * DAY
    next_after(rule, at)
    begin = time.process_time()
    for n in range(100):
        next_after(rule, at + n * timedelta(minutes=7, seconds=1))
    assert (time.process_time() - begin) / 100 < 0.001
