"""What the client asks for is what the handler does, timers and jobs first."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
import pytest

from onthedot import (
    AsyncOnthedot,
    ChangedError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    Onthedot,
)
from onthedot.options import NewJob
from tests.client.conftest import Server
from tests.eventually import eventually
from tests.receiver import Receiver

URL = "https://example.com/hook"
HOUR = timedelta(hours=1)


def test_a_timer_is_created_read_changed_and_deleted(onthedot: Onthedot) -> None:
    timer = onthedot.timers.create(URL, delay=timedelta(hours=4, seconds=1), user="anna")
    assert timer.time_left == 14_401
    assert onthedot.timers.get(timer.id).time_left in {14_400, 14_401}
    assert onthedot.timers.update(timer.id, delay=60).time_left == 60
    assert onthedot.jobs.get(timer.id).user == "anna"
    onthedot.timers.delete(timer.id)
    with pytest.raises(NotFoundError) as refused:
        onthedot.timers.get(timer.id)
    assert (refused.value.status, refused.value.code) == (404, "timer_not_found")


def test_a_batch_of_timers_is_all_or_none_and_the_bad_one_is_named(onthedot: Onthedot) -> None:
    made = onthedot.timers.create_batch([{"url": URL, "minutes": 1}, {"url": URL, "delay": 7}])
    assert [timer.time_left for timer in made] == [60, 7]
    with pytest.raises(InvalidRequestError) as refused:
        onthedot.timers.create_batch([{"url": URL, "minutes": 1}, {"url": "gopher://", "hours": 1}])
    assert [error.pointer for error in refused.value.errors] == ["#/timers/1/url"]


def test_a_timer_counts_whole_seconds(onthedot: Onthedot) -> None:
    with pytest.raises(ValueError, match="whole seconds"):
        onthedot.timers.create(URL, delay=timedelta(milliseconds=1_500))


def test_a_job_takes_pythons_own_times(onthedot: Onthedot, name: str) -> None:
    starts_at = datetime(2031, 5, 1, 12, 30, 15, 250_000, tzinfo=ZoneInfo("Europe/Paris"))
    job = onthedot.jobs.create(
        URL,
        cron="0 9 * * MON-FRI",
        timezone=ZoneInfo("Europe/Paris"),
        starts_at=starts_at,
        jitter=timedelta(minutes=2),
        timeout=timedelta(seconds=2.5),
        retry={"max_attempts": 3, "base": timedelta(minutes=1)},
        payload={"report": "daily", "at": None},
        labels={"team": name},
        key=name,
    )
    assert (job.timezone, job.starts_at, job.jitter) == ("Europe/Paris", starts_at, 120)
    assert (job.timeout, job.retry.base, job.retry.max_attempts) == (2.5, 60, 3)
    assert job.next_run_at is not None
    assert job.next_run_at > starts_at
    assert job.payload == {"report": "daily", "at": None}
    assert onthedot.jobs.get_by_key(name) == job


def test_a_local_time_needs_a_zone_of_its_own_or_beside_it(onthedot: Onthedot) -> None:
    local = datetime(2031, 12, 24, 18)  # noqa: DTZ001  # that is the point
    job = onthedot.jobs.create(URL, run_at=local, timezone="Europe/Paris")
    assert job.run_at == datetime(2031, 12, 24, 17, tzinfo=UTC)
    with pytest.raises(ValueError, match="run_at: give the datetime a zone"):
        onthedot.jobs.create(URL, run_at=local)
    with pytest.raises(ValueError, match="starts_at: give"):
        onthedot.jobs.create(URL, every=60, timezone="Europe/Paris", starts_at=local)


def test_a_change_names_the_version_that_it_knows(onthedot: Onthedot) -> None:
    job = onthedot.jobs.create(URL, delay=HOUR)
    changed = onthedot.jobs.update(job.id, version=job.version, timeout=3, headers={"x-a": "b"})
    assert (changed.timeout, changed.headers) == (3, {"x-a": "b"})
    with pytest.raises(ChangedError):
        onthedot.jobs.update(job.id, version=job.version, timeout=4)
    with pytest.raises(ChangedError):
        onthedot.jobs.delete(job.id, version=job.version)
    onthedot.jobs.delete(job.id, version=changed.version)
    assert onthedot.jobs.get(job.id).state == "ended"


def test_a_job_under_a_key_is_put_kept_and_touched(onthedot: Onthedot, name: str) -> None:
    job = onthedot.jobs.put(name, URL, delay=HOUR)
    assert onthedot.jobs.put(name, URL, delay=2 * HOUR, on_conflict="keep") == job
    replaced = onthedot.jobs.put(name, f"{URL}/2", delay=2 * HOUR)
    assert (replaced.id, replaced.url) == (job.id, f"{URL}/2")
    with pytest.raises(ConflictError) as refused:
        onthedot.jobs.put(name, URL, on_conflict="error")
    assert refused.value.code == "key_taken"
    touched = onthedot.jobs.touch(name)
    assert touched.run_at >= replaced.run_at
    assert touched.version > replaced.version


def test_a_key_of_any_letters_finds_its_way(onthedot: Onthedot, name: str) -> None:
    key = f"{name}:a@b+c=~d"
    assert onthedot.jobs.put(key, URL, delay=HOUR).key == key
    assert onthedot.jobs.get_by_key(key).key == key
    with pytest.raises(InvalidRequestError):
        onthedot.jobs.get_by_key("a?b#c")


def test_a_job_is_paused_and_resumed_twice_as_well_as_once(onthedot: Onthedot) -> None:
    job = onthedot.jobs.create(URL, every=HOUR)
    assert [onthedot.jobs.pause(job.id).state for _ in range(2)] == ["paused"] * 2
    assert [onthedot.jobs.resume(job.id).state for _ in range(2)] == ["active"] * 2


def test_lists_go_on_over_their_pages(onthedot: Onthedot, name: str) -> None:
    jobs: list[NewJob] = [{"url": URL, "delay": 3_600 + n, "user": name} for n in range(7)]
    made = [job.id for job in onthedot.jobs.create_batch(jobs)]
    listed = onthedot.jobs.list(user=name, order="asc", page_size=3)
    assert [job.id for job in listed] == made
    assert [job.id for job in listed] == made, "a second use begins anew"
    pages = list(listed.pages())
    assert [len(page.data) for page in pages] == [3, 3, 1]
    resumed = onthedot.jobs.list(user=name, order="asc", page_size=3, cursor=pages[0].next_cursor)
    assert [job.id for job in resumed] == made[3:]
    assert len(listed.first().data) == 3


async def test_asyncio_has_the_same(async_onthedot: AsyncOnthedot, name: str) -> None:
    jobs: list[NewJob] = [{"url": URL, "delay": HOUR, "user": name} for _ in range(5)]
    made = await async_onthedot.jobs.create_batch(jobs)
    listed = async_onthedot.jobs.list(user=name, page_size=2)
    assert {job.id async for job in listed} == {job.id for job in made}
    assert [len(page.data) async for page in listed.pages()] == [2, 2, 1]
    await async_onthedot.jobs.delete(made[0].id)
    with pytest.raises(NotFoundError):
        await async_onthedot.jobs.get(2**40)


def test_filters_are_those_of_the_api(onthedot: Onthedot, name: str) -> None:
    run_at = datetime(2033, 1, 1, tzinfo=UTC)
    mine = onthedot.jobs.create(
        "https://one.example/x", run_at=run_at, labels={"a": name, "b": "1:2"}, key=name
    )
    onthedot.jobs.create("https://two.example/x", delay=HOUR, labels={"a": name})
    for filtered in (
        onthedot.jobs.list(labels={"a": name, "b": "1:2"}),
        onthedot.jobs.list(labels={"a": name}, host="one.example"),
        onthedot.jobs.list(labels={"a": name}, from_=run_at, to=run_at + HOUR, status="upcoming"),
        onthedot.jobs.list(key=name),
    ):
        assert [job.id for job in filtered] == [mine.id]
    assert not list(onthedot.jobs.list(labels={"a": name}, status="succeeded"))


def test_cancel_counts_first_and_cancels_then(onthedot: Onthedot, name: str) -> None:
    onthedot.jobs.create_batch([{"url": URL, "delay": HOUR, "user": name}] * 3)
    counted = onthedot.jobs.cancel(user=name, dry_run=True)
    assert (counted.matched, counted.cancelled) == (3, 0)
    assert onthedot.jobs.cancel(user=name).cancelled == 3
    with pytest.raises(InvalidRequestError):
        onthedot.jobs.cancel()


def test_a_preview_says_what_the_clocks_do(onthedot: Onthedot) -> None:
    after = datetime(2031, 3, 29, 12, tzinfo=UTC)
    preview = onthedot.jobs.preview(
        cron="30 2 * * *", timezone="Europe/Paris", after=after, count=2
    )
    assert [occurrence.note for occurrence in preview.data] == ["shifted", None]
    assert preview.data[0].at == datetime(2031, 3, 30, 1, tzinfo=UTC)


def test_a_validation_says_every_criterion(onthedot: Onthedot) -> None:
    verdict = onthedot.jobs.validate("http://127.0.0.1:9/", delay=60)
    assert verdict.valid
    assert {criterion.name for criterion in verdict.criteria} >= {"scheme", "address_allowed"}
    verdict = onthedot.jobs.validate("ftp://example.com", cron="not cron")
    assert not verdict.valid
    assert {error.pointer for error in verdict.errors} == {"#/url"}


async def test_a_test_call_is_made_now(async_onthedot: AsyncOnthedot, receiver: Receiver) -> None:
    trial = await async_onthedot.jobs.test(
        receiver.url("/status/418"), payload={"a": 1}, expect={"status": [200, 418]}
    )
    assert (trial.status, trial.delivered, trial.met) == (418, False, True)
    assert trial.body == "the receiver says so"
    assert receiver.calls[-1].body == b'{"a":1}'


async def test_a_job_is_triggered_and_its_attempts_are_told(
    async_onthedot: AsyncOnthedot, receiver: Receiver, name: str
) -> None:
    job = await async_onthedot.jobs.create(receiver.url(), every=HOUR, user=name)
    triggered = await async_onthedot.jobs.trigger(job.id)
    assert triggered.job_id == job.id

    async def told() -> None:
        found = [each async for each in async_onthedot.jobs.executions(job.id)]
        assert [(each.state, each.http_status, each.scheduled_for) for each in found] == [
            ("done", 204, triggered.scheduled_for)
        ]

    await eventually(told)
    assert [each.job_id async for each in async_onthedot.executions.list(user=name)] == [job.id]


def test_an_export_is_what_an_import_takes(onthedot: Onthedot, name: str) -> None:
    onthedot.jobs.create(URL, cron="@daily", key=name, payload="ü", labels={"a": "b"})
    [line] = [job for job in onthedot.jobs.export() if job.get("key") == name]
    assert (line["cron"], line["payload"]) == ("@daily", "ü")
    imported = onthedot.jobs.import_([line, {"url": URL, "delay": timedelta(hours=2)}])
    assert (imported.created, imported.replaced) == (1, 1)
    with pytest.raises(InvalidRequestError) as refused:
        onthedot.jobs.import_([line, b"{nonsense"])
    assert [error.pointer for error in refused.value.errors] == ["#/lines/1"]


def test_a_key_of_the_callers_makes_one_thing_however_often(onthedot: Onthedot, name: str) -> None:
    first, second = (onthedot.timers.create(URL, hours=1, idempotency_key=name) for _ in range(2))
    assert first == second
    with pytest.raises(InvalidRequestError) as refused:
        onthedot.timers.create(URL, hours=2, idempotency_key=name)
    assert refused.value.code == "idempotency_key_reused"


def test_what_no_server_says_yet_is_kept(onthedot: Onthedot) -> None:
    timer = onthedot.timers.create(URL, hours=1)
    later = type(timer).model_validate({**timer.document(), "mood": "sunny"})
    assert later.document()["mood"] == "sunny"


def test_an_answer_is_the_servers_by_the_letter(onthedot: Onthedot, server: Server) -> None:
    job = onthedot.jobs.create(URL, cron="@daily", dst={"gap": "skip"}, labels={"a": "b"})
    plain = httpx.get(f"{server.url}/jobs/{job.id}")
    assert job.document() == plain.json()
