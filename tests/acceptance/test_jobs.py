"""Jobs end to end: created, fired, changed, ended, by real processes."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from tests.eventually import eventually
from tests.processes import Services
from tests.receiver import Receiver


@pytest.fixture
async def executor(services: Services) -> None:
    await services.executor()


async def created(api: httpx.AsyncClient, **job: Any) -> dict[str, Any]:
    response = await api.post("/jobs", json=job)
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/jobs/{body['id']}"
    assert response.headers["etag"] == f'"{body["version"]}"'
    return body


async def read(api: httpx.AsyncClient, job_id: int) -> dict[str, Any]:
    response = await api.get(f"/jobs/{job_id}")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def calls_of(receiver: Receiver, job_id: int) -> list[Any]:
    return [call for call in receiver.calls if call.webhook_id.split("_")[1] == str(job_id)]


@pytest.mark.usefixtures("executor")
async def test_a_job_without_a_time_runs_at_once_and_tells_how_it_ended(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    job = await created(api, url=receiver.url(), payload={"a": 1}, user="anna", labels={"b": "c"})
    assert (job["state"], job["version"]) == ("active", 1)
    assert job["status"] in {"upcoming", "executing"}
    assert (job["payload"], job["user"], job["labels"]) == ({"a": 1}, "anna", {"b": "c"})

    async def is_over() -> None:
        now = await read(api, job["id"])
        assert (now["state"], now["status"]) == ("ended", "succeeded")
        assert now["last_run"]["state"] == "done"
        assert now["next_run_at"] is None

    await eventually(is_over)
    assert len(calls_of(receiver, job["id"])) == 1


@pytest.mark.usefixtures("executor")
async def test_a_job_runs_at_its_instant_after_its_delay_and_at_its_local_time(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    wall = soon.astimezone(tz=None).astimezone(__import__("zoneinfo").ZoneInfo("Asia/Kolkata"))
    ways = (
        {"run_at": soon.isoformat()},
        {"delay": 1.5},
        {"run_at": wall.replace(tzinfo=None).isoformat(), "timezone": "Asia/Kolkata"},
    )
    jobs = [await created(api, url=receiver.url(), **when) for when in ways]
    assert abs(instant(jobs[0]["run_at"]) - soon) < timedelta(milliseconds=1)
    assert jobs[2]["run_at"] == jobs[0]["run_at"]

    def all_called() -> None:
        assert all(len(calls_of(receiver, job["id"])) == 1 for job in jobs)

    await eventually(all_called)
    for job in jobs:
        [call] = calls_of(receiver, job["id"])
        assert call.arrived_at >= instant(job["run_at"]).timestamp() - 0.001


@pytest.mark.usefixtures("executor")
async def test_a_job_recurs_on_the_dot_until_it_is_ended(
    api: httpx.AsyncClient, receiver: Receiver, database_url: str
) -> None:
    job = await created(api, url=receiver.url(), every=1)

    def has_recurred() -> None:
        assert len(calls_of(receiver, job["id"])) >= 4

    await eventually(has_recurred)
    assert (await api.delete(f"/jobs/{job['id']}")).status_code == 204
    assert (await api.delete(f"/jobs/{job['id']}")).status_code == 204

    async def has_ended() -> None:  # what was claimed ahead goes on
        ended = await read(api, job["id"])
        told = (ended["state"], ended["status"], ended["next_run_at"])
        assert told == ("ended", "cancelled", None)

    await eventually(has_ended)
    calls = calls_of(receiver, job["id"])
    instants = [int(call.webhook_id.split("_")[2]) for call in calls]
    assert instants == [instants[0] + n * 1_000_000 for n in range(len(instants))]
    with psycopg.connect(database_url) as connection:
        left = connection.execute("select count(*) from schedules where state = 'pending'")
        assert left.fetchone() == (0,)
        states = connection.execute(
            "select state, count(*) from executions group by state"
        ).fetchall()
    assert dict(states)["cancelled"] == 1


@pytest.mark.usefixtures("executor")
async def test_a_recurring_job_stops_after_as_many_runs_as_it_may_have(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    job = await created(api, url=receiver.url(), every=1, max_runs=2)

    async def is_over() -> None:
        now = await read(api, job["id"])
        assert (now["state"], now["status"]) == ("ended", "succeeded")

    await eventually(is_over)
    assert len(calls_of(receiver, job["id"])) == 2


@pytest.mark.usefixtures("executor")
async def test_a_paused_job_is_not_called_and_a_resumed_one_catches_up_as_it_says(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    # Longer than what is claimed ahead: it has not begun when it is paused.
    job = await created(api, url=receiver.url(), delay=4)
    paused = await api.post(f"/jobs/{job['id']}/pause")
    assert (paused.status_code, paused.json()["state"]) == (200, "paused")
    assert paused.json()["next_run_at"] is None
    other = await created(api, url=receiver.url(), delay=4.5)

    def other_was_called() -> None:
        assert calls_of(receiver, other["id"])

    await eventually(other_was_called)
    assert not calls_of(receiver, job["id"])
    resumed = await api.post(f"/jobs/{job['id']}/resume")
    assert (resumed.status_code, resumed.json()["state"]) == (200, "active")

    def was_called() -> None:
        assert len(calls_of(receiver, job["id"])) == 1

    await eventually(was_called)


@pytest.mark.usefixtures("executor")
async def test_a_triggered_job_runs_now_and_as_planned(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    job = await created(api, url=receiver.url(), delay=2)
    triggered = await api.post(f"/jobs/{job['id']}/trigger")
    assert triggered.status_code == 201, triggered.text
    assert triggered.json()["job_id"] == job["id"]

    def was_called_twice() -> None:
        assert len(calls_of(receiver, job["id"])) == 2

    await eventually(was_called_twice)


async def test_a_run_that_was_asked_for_stays_when_the_planned_one_is_moved(
    api: httpx.AsyncClient, database_url: str
) -> None:
    """Neither could be anywhere else: a job has one run at an instant."""
    job = await created(api, url="https://example.com/hook", delay=3_600, key="both")
    triggered = (await api.post(f"/jobs/{job['id']}/trigger")).json()["scheduled_for"]
    moved = await api.patch(f"/jobs/{job['id']}", json={"delay": 60})
    assert moved.status_code == 200, moved.text
    for change in (
        api.post("/jobs/by-key/both/touch"),
        api.put("/jobs/by-key/both", json={"url": "https://example.com/hook"}),
    ):
        assert (await change).status_code == 200
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "select scheduled_for, scheduled_for = run_at from schedules join jobs on id = job_id"
        ).fetchall()
    assert sorted(is_planned for _, is_planned in rows) == [False, True]
    [asked_for] = [at for at, is_planned in rows if not is_planned]
    assert abs(asked_for - instant(triggered)) < timedelta(milliseconds=1)


@pytest.mark.usefixtures("executor")
async def test_a_change_is_of_the_version_it_names_and_moves_the_run(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    job = await created(api, url=receiver.url("/old"), delay=3_600)
    changed = await api.patch(
        f"/jobs/{job['id']}",
        json={"url": receiver.url("/new"), "delay": 7_200, "labels": {"x": "y"}, "user": "bert"},
        headers={"if-match": '"1"'},
    )
    assert changed.status_code == 200, changed.text
    body = changed.json()
    assert (body["version"], body["user"], body["labels"]) == (2, "bert", {"x": "y"})
    assert changed.headers["etag"] == '"2"'
    moved = instant(body["run_at"]) - instant(job["run_at"])
    assert timedelta(seconds=3_590) < moved < timedelta(seconds=3_610)
    for method, extra in (("patch", {"json": {"user": "carl"}}), ("delete", {})):
        stale = await api.request(
            method, f"/jobs/{job['id']}", headers={"if-match": '"1"'}, **extra
        )
        assert (stale.status_code, stale.json()["code"]) == (412, "job_has_changed")
    gone = await api.delete(f"/jobs/{job['id']}", headers={"if-match": '"2"'})
    assert gone.status_code == 204
    late = await api.patch(f"/jobs/{job['id']}", json={"user": "dora"})
    assert (late.status_code, late.json()["code"]) == (409, "job_has_ended")


async def test_a_put_is_of_the_version_it_names_and_makes_no_job(api: httpx.AsyncClient) -> None:
    path = "/jobs/by-key/versioned"
    wanted = {"url": "https://example.com/hook", "delay": 3_600}
    for tag in ('"1"', "*", '"None"'):
        absent = await api.put(path, json=wanted, headers={"if-match": tag})
        assert (absent.status_code, absent.json()["code"]) == (412, "job_has_changed")
    made = await api.put(path, json=wanted)
    assert made.status_code == 201, made.text
    changed = await api.put(path, json=wanted | {"user": "anna"}, headers={"if-match": '"1"'})
    assert (changed.status_code, changed.json()["version"]) == (200, 2), changed.text
    for how in ("replace", "extend"):
        body = wanted | {"user": "bert", "on_conflict": how}
        stale = await api.put(path, json=body, headers={"if-match": '"1"'})
        assert (stale.status_code, stale.json()["code"]) == (412, "job_has_changed")
    assert (await api.get(path)).json() == changed.json()
    assert (await api.put(path, json=wanted, headers={"if-match": "*"})).json()["version"] == 3


async def test_a_job_that_recurs_is_no_timer(api: httpx.AsyncClient, receiver: Receiver) -> None:
    job = await created(api, url=receiver.url(), every=60)
    path = f"/timers/{job['id']}"
    for method in ("get", "delete"):
        assert (await api.request(method, path)).status_code == 404
    assert (await read(api, job["id"]))["state"] == "active"
    assert (await api.delete(f"/jobs/{job['id']}")).status_code == 204
    assert (await api.delete(path)).status_code == 404


async def test_a_change_of_a_recurrence_keeps_what_it_does_not_name(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    job = await created(
        api, url=receiver.url(), cron="0 9 * * *", timezone="Europe/Paris", overlap="skip"
    )
    path = f"/jobs/{job['id']}"
    moved = (await api.patch(path, json={"cron": "0 10 * * *"})).json()
    assert (moved["cron"], moved["timezone"]) == ("0 10 * * *", "Europe/Paris")
    assert moved["overlap"] == "skip"
    assert moved["run_at"] != job["run_at"]
    policy = (await api.patch(path, json={"catch_up": "all"})).json()
    assert (policy["catch_up"], policy["run_at"]) == ("all", moved["run_at"])
    every = (await api.patch(path, json={"every": 60})).json()
    assert (every["every"], every["cron"], every["timezone"]) == (60, None, None)
    once = (await api.patch(path, json={"delay": 60})).json()
    assert (once["every"], once["overlap"]) == (None, None)
    refused = await api.patch(path, json={"timezone": "Europe/Paris"})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"].startswith("#/")


async def test_a_key_names_one_job_that_can_be_replaced_kept_extended_and_touched(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    path = "/jobs/by-key/watch.dog"
    first = await api.put(path, json={"url": receiver.url("/a"), "delay": 3_600})
    assert first.status_code == 201, first.text
    job_id = first.json()["id"]
    twin = await api.post("/jobs", json={"url": receiver.url(), "key": "watch.dog"})
    assert (twin.status_code, twin.json()["code"]) == (409, "key_taken")
    again = {"url": receiver.url("/b"), "delay": 60}
    kept = await api.put(path, json={**again, "on_conflict": "keep"})
    assert (kept.status_code, kept.json()["url"]) == (200, receiver.url("/a"))
    extended = (await api.put(path, json={**again, "on_conflict": "extend"})).json()
    assert extended["url"] == receiver.url("/a")
    assert instant(extended["run_at"]) < datetime.now(UTC) + timedelta(seconds=61)
    error = await api.put(path, json={**again, "on_conflict": "error"})
    assert error.status_code == 409
    replaced = (await api.put(path, json={**again, "delay": 7_200})).json()
    assert (replaced["id"], replaced["url"]) == (job_id, receiver.url("/b"))
    touched = (await api.post(f"{path}/touch")).json()
    assert timedelta() < instant(touched["run_at"]) - instant(replaced["run_at"])
    assert (await api.get(path)).json()["id"] == job_id
    assert (await api.delete(f"/jobs/{job_id}")).status_code == 204
    assert (await api.get(path)).status_code == 404
    assert (await api.put(path, json=again)).status_code == 201, "an ended job gives its key away"


@pytest.mark.usefixtures("executor")
async def test_a_dead_man_timer_fires_when_it_is_not_touched_and_is_armed_again(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    path = "/jobs/by-key/alive"
    job = (await api.put(path, json={"url": receiver.url(), "delay": 1})).json()

    def was_called(times: int) -> None:
        assert len(calls_of(receiver, job["id"])) == times

    await eventually(lambda: was_called(1))

    async def is_armed_again() -> None:
        assert (await api.post(f"{path}/touch")).status_code == 200

    await eventually(is_armed_again)
    await eventually(lambda: was_called(2))


async def test_a_batch_is_made_whole_or_not_at_all(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    jobs = [
        {"url": receiver.url(), "cron": "@daily", "timezone": "Asia/Tokyo"},
        {"url": receiver.url(), "delay": 60},
        {"url": receiver.url(), "rrule": "FREQ=MONTHLY;BYDAY=-1FR"},
    ]
    made = await api.post("/jobs/batch", json={"jobs": jobs})
    assert made.status_code == 201, made.text
    assert [job["cron"] for job in made.json()["data"]] == ["@daily", None, None]
    bad = await api.post("/jobs/batch", json={"jobs": [*jobs, {**jobs[0], "cron": "61 * * * *"}]})
    assert bad.status_code == 422
    assert bad.json()["errors"][0]["pointer"] == "#/jobs/3/cron"
    assert len((await api.get("/timers")).json()["data"]) == 1


async def test_a_preview_marks_what_the_clocks_move(api: httpx.AsyncClient) -> None:
    asked = {
        "cron": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "after": "2027-03-27T00:00:00Z",
        "count": 2,
    }
    response = await api.post("/jobs/preview", json=asked)
    assert response.status_code == 200, response.text
    assert response.json()["data"] == [
        {"at": "2027-03-27T01:30:00.000Z", "local": "2027-03-27T02:30:00", "note": None},
        {"at": "2027-03-28T01:00:00.000Z", "local": "2027-03-28T02:30:00", "note": "shifted"},
    ]


@pytest.mark.parametrize(
    ("job", "pointer"),
    [
        ({"cron": "* * *"}, "#/cron"),
        ({"cron": "@reboot"}, "#/cron"),
        ({"cron": "0 0 31 2 *"}, "#/cron"),
        ({"cron": "* * * * *", "timezone": "Mars/Olympus"}, "#/timezone"),
        ({"every": 0.5}, "#/every"),
        ({"rrule": "FREQ=SECONDLY"}, "#/rrule"),
        ({"rrule": "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"}, "#/rrule"),
        ({"delay": 1, "every": 5}, "#/every"),
        ({"run_at": "2026-01-01T00:00:00Z"}, "#/run_at"),
        ({"run_at": "2026-12-24T18:00:00"}, "#/run_at"),
        ({"delay": 5, "overlap": "skip"}, "#/overlap"),
        ({"delay": 5, "timezone": "UTC"}, "#/timezone"),
        ({"max_runs": 3}, "#/max_runs"),
        ({"cron": "@daily", "max_runs": 0}, "#/max_runs"),
        ({"cron": "@daily", "max_runs": "3"}, "#/max_runs"),
        ({"cron": "@daily", "ends_at": "2020-01-01T00:00:00Z"}, "#/ends_at"),
        ({"labels": {"a b": "c"}}, "#/labels/a b"),
        ({"labels": {"a": 1}}, "#/labels/a"),
        ({"key": "a/b"}, "#/key"),
        ({"user": ""}, "#/user"),
        ({"dst": {"gap": "never"}, "cron": "@daily"}, "#/dst/gap"),
        ({"nonsense": 1}, "#/nonsense"),
        ({"delay": -1}, "#/delay"),
        ({"delay": 1e12}, "#/delay"),
        ({"max_lateness": -1}, "#/max_lateness"),
    ],
)
async def test_a_job_that_cannot_be_is_refused_by_the_field_to_change(
    api: httpx.AsyncClient, job: dict[str, Any], pointer: str
) -> None:
    response = await api.post("/jobs", json={"url": "https://example.com/", **job})
    assert response.status_code == 422, response.text
    assert [error["pointer"] for error in response.json()["errors"]][:1] == [pointer]
    assert response.json()["errors"][0]["detail"]


async def test_what_begins_too_late_is_skipped(
    api: httpx.AsyncClient, services: Services, receiver: Receiver, database_url: str
) -> None:
    late = await created(api, url=receiver.url(), delay=1, max_lateness=2)
    fine = await created(api, url=receiver.url(), delay=1)
    with psycopg.connect(database_url, autocommit=True) as connection:
        for table, column in (("jobs", "run_at"), ("schedules", "scheduled_for")):
            connection.execute(f"update {table} set {column} = {column} - interval '1 minute'")
        connection.execute("update schedules set due_at = scheduled_for")
    await services.executor()

    async def both_are_over() -> None:
        now = await read(api, late["id"])
        assert (now["state"], now["status"]) == ("ended", "skipped")
        assert now["last_run"]["error"].startswith("max_lateness")
        assert calls_of(receiver, fine["id"])

    await eventually(both_are_over)
    assert not calls_of(receiver, late["id"])


@pytest.mark.usefixtures("executor")
async def test_a_receiver_that_is_gone_pauses_the_job_that_would_call_it_again(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    job = await created(api, url=receiver.url("/status/410"), every=1)

    async def is_paused() -> None:
        now = await read(api, job["id"])
        assert now["state"] == "paused"
        assert now["next_run_at"] is None

    await eventually(is_paused)


@pytest.mark.usefixtures("executor")
@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
async def test_an_occurrence_beside_a_run_that_lasts_does_as_its_job_says(
    api: httpx.AsyncClient, receiver: Receiver, overlap: str
) -> None:
    job = await created(api, url=receiver.url("/slow/2.5"), every=1, overlap=overlap, max_runs=3)

    def began(times: int) -> None:
        assert len(calls_of(receiver, job["id"])) >= times

    await eventually(lambda: began(2))
    first, second, *_ = calls_of(receiver, job["id"])
    apart = second.arrived_at - first.arrived_at
    assert (apart < 2) == (overlap == "allow")
    if overlap == "queue":
        instants = [int(call.webhook_id.split("_")[2]) for call in (first, second)]
        assert instants[1] == instants[0] + 1_000_000, "none is left out"


async def test_a_job_that_recurs_has_no_delay_to_extend(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    path = "/jobs/by-key/cron"
    job = (await api.put(path, json={"url": receiver.url(), "cron": "0 9 * * *"})).json()
    extended = await api.put(
        path, json={"url": receiver.url(), "delay": 60, "on_conflict": "extend"}
    )
    assert (extended.status_code, extended.json()["code"]) == (409, "job_has_no_delay")
    now = await read(api, job["id"])
    assert (now["cron"], now["next_run_at"]) == (job["cron"], job["next_run_at"])


@pytest.mark.usefixtures("executor")
async def test_a_job_that_recurs_each_second_can_be_changed_and_no_occurrence_comes_twice(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    """Its next occurrence is claimed ahead, so it is mostly another one than the clock says."""
    path = "/jobs/by-key/busy"
    rule = {"url": receiver.url(), "every": 1, "anchor": "2026-01-01T00:00:00Z"}
    job = (await api.put(path, json=rule)).json()
    for turn in range(60):
        how = {"ends_at": f"2099-01-01T00:00:{turn % 60:02}Z"}
        changed = (
            await api.patch(f"/jobs/{job['id']}", json=how)
            if turn % 2
            else await api.put(path, json=rule | how)
        )
        assert changed.status_code == 200, changed.text
        await asyncio.sleep(0.05)
    assert (await api.delete(f"/jobs/{job['id']}")).status_code == 204
    instants = [int(call.webhook_id.split("_")[2]) for call in calls_of(receiver, job["id"])]
    assert len(instants) >= 2
    assert sorted(set(instants)) == sorted(instants)
    span = range(min(instants), max(instants) + 1, 1_000_000)
    assert sorted(instants) == list(span), "none was lost"


async def test_a_job_is_not_moved_to_the_instant_of_a_run_that_has_begun(
    api: httpx.AsyncClient, receiver: Receiver, database_url: str
) -> None:
    """A recurring job becomes one that runs once, when an occurrence is being called."""
    job = await created(api, url=receiver.url(), every=3_600)
    begun = instant(job["next_run_at"]) - timedelta(minutes=1)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "insert into schedules (job_id, scheduled_for, due_at, state, fence, executor_id) "
            "values (%s, %s, %s, 'executing', 1, gen_random_uuid())",
            (job["id"], begun, begun),
        )
    path = f"/jobs/{job['id']}"
    refused = await api.patch(path, json={"run_at": begun.isoformat()})
    assert (refused.status_code, refused.json()["code"]) == (409, "job_has_begun")
    assert (await read(api, job["id"]))["every"] == 3_600
    moved = await api.patch(path, json={"run_at": (begun + timedelta(seconds=1)).isoformat()})
    assert moved.status_code == 200, moved.text


async def test_a_change_keeps_what_is_due_and_was_not_made_yet(
    api: httpx.AsyncClient, receiver: Receiver, database_url: str
) -> None:
    job = await created(api, url=receiver.url(), every=3_600, anchor="2026-01-01T00:00:00Z")
    with psycopg.connect(database_url, autocommit=True) as connection:
        # As if nobody had been here for an hour.
        for statement in (
            "update schedules set scheduled_for = scheduled_for - interval '1 hour'",
            "update schedules set due_at = due_at - interval '1 hour'",
            "update jobs set run_at = run_at - interval '1 hour'",
        ):
            connection.execute(statement.encode())
    path = f"/jobs/{job['id']}"
    kept = (await api.patch(path, json={"ends_at": "2099-01-01T00:00:00Z"})).json()
    assert instant(kept["next_run_at"]) == instant(job["next_run_at"]) - timedelta(hours=1)
    moved = (await api.patch(path, json={"every": 7_200, "anchor": kept["next_run_at"]})).json()
    assert moved["next_run_at"] == kept["next_run_at"], "the new rule has it too"
    other = (await api.patch(path, json={"anchor": "2026-01-01T00:00:30Z"})).json()
    assert instant(other["next_run_at"]) > datetime.now(UTC)


@pytest.mark.usefixtures("executor")
async def test_nothing_more_is_called_of_a_paused_job_neither_again_nor_anew(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    again = {"max_attempts": 5, "backoff": "exponential", "base": 0.5, "jitter": 0}
    failing = await created(api, url=receiver.url("/status/500?slow"), key="fails", retry=again)
    await eventually(lambda: were_called(receiver, failing["id"]))
    paused = await api.post(f"/jobs/{failing['id']}/pause")
    assert paused.json()["state"] == "paused"
    begun = len(calls_of(receiver, failing["id"]))
    over = await created(api, url=receiver.url(), key="over", delay=0.2)
    await eventually(lambda: were_called(receiver, over["id"]))

    async def is_over() -> None:
        assert (await read(api, over["id"]))["state"] == "ended"

    await eventually(is_over)
    assert (await api.post(f"/jobs/{over['id']}/pause")).status_code == 200
    touched = (await api.post("/jobs/by-key/over/touch")).json()
    assert (touched["state"], touched["next_run_at"]) == ("paused", None)
    await asyncio.sleep(2)
    assert len(calls_of(receiver, failing["id"])) <= begun + 1, "one may have been under way"
    assert len(calls_of(receiver, over["id"])) == 1
    for job in (failing, over):
        assert (await api.post(f"/jobs/{job['id']}/resume")).json()["state"] == "active"

    def go_on() -> None:
        assert len(calls_of(receiver, failing["id"])) > begun + 1
        assert len(calls_of(receiver, over["id"])) == 2

    await eventually(go_on)


def were_called(receiver: Receiver, job_id: int) -> None:
    assert calls_of(receiver, job_id)


@pytest.mark.usefixtures("executor")
async def test_runs_are_counted_anew_when_a_job_is_replaced_and_not_below_what_it_had(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    path = "/jobs/by-key/thrice"
    thrice = {"url": receiver.url(), "every": 1, "max_runs": 3}
    job = (await api.put(path, json=thrice)).json()

    async def is_over(runs: int) -> None:
        assert (await read(api, job["id"]))["state"] == "ended"
        assert len(calls_of(receiver, job["id"])) == runs

    await eventually(lambda: is_over(3))
    assert (await api.put(path, json=thrice)).status_code == 200
    await eventually(lambda: is_over(6))
    await api.put(path, json={**thrice, "max_runs": 1_000})

    def has_recurred() -> None:
        assert len(calls_of(receiver, job["id"])) >= 8

    await eventually(has_recurred)
    refused = await api.patch(f"/jobs/{job['id']}", json={"max_runs": 1})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "#/max_runs")


@pytest.mark.usefixtures("executor")
async def test_a_job_that_is_over_can_be_ended_and_gives_its_key_away(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    job = await created(api, url=receiver.url(), key="a")

    async def is_over() -> None:
        assert (await read(api, job["id"]))["state"] == "ended"

    await eventually(is_over)
    taken = await api.post("/jobs", json={"url": receiver.url(), "key": "a"})
    assert (taken.status_code, taken.json()["code"]) == (409, "key_taken")
    for _ in range(2):
        assert (await api.delete(f"/jobs/{job['id']}")).status_code == 204
    assert (await read(api, job["id"]))["status"] == "succeeded"
    await created(api, url=receiver.url(), key="a", delay=60)


@pytest.mark.usefixtures("executor")
async def test_a_job_that_was_armed_again_tells_how_its_last_run_ended(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    job = await created(
        api, url=receiver.url("/status/400"), key="dog", run_at=datetime.now(UTC).isoformat()
    )

    async def has_failed() -> None:
        assert (await read(api, job["id"]))["status"] == "failed"

    await eventually(has_failed)
    path = "/jobs/by-key/dog"
    words = {"url": receiver.url("/status/400"), "run_at": job["run_at"]}
    again = await api.put(path, json=words)
    assert again.status_code == 200, again.text

    async def has_failed_again() -> None:
        assert len({call.webhook_id for call in calls_of(receiver, job["id"])}) == 2
        assert (await read(api, job["id"]))["state"] == "ended"

    await eventually(has_failed_again)
    await api.put(path, json={"url": receiver.url(), "delay": 3_600})
    listed = (await api.get("/jobs?status=failed")).json()["data"]
    assert [each["id"] for each in listed] == [job["id"]]


async def test_what_is_kept_is_kept_whatever_its_caller_says_by_now(
    api: httpx.AsyncClient, receiver: Receiver
) -> None:
    path = "/jobs/by-key/kept"
    job = (await api.put(path, json={"url": receiver.url(), "delay": 60})).json()
    past = {"url": receiver.url(), "run_at": "2026-01-01T00:00:00Z", "on_conflict": "keep"}
    kept = await api.put(path, json=past)
    assert (kept.status_code, kept.json()["run_at"]) == (200, job["run_at"])
