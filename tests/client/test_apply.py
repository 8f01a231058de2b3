"""`onthedot apply`: what was applied is as it should be, and what others made is left alone."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from onthedot import Onthedot
from onthedot.cli import manifest
from onthedot.cli.plan import differences
from tests.client.commands import Commands, Ran
from tests.client.flaky import answer, flaky, problem
from tests.eventually import eventually
from tests.receiver import Receiver

NO_JOBS = b'{"data": [], "next_cursor": null}'
URL = "https://example.com/hook"
JOBS: list[dict[str, Any]] = [
    {"cron": "0 9 * * MON-FRI", "timezone": "Europe/Paris"},
    {"cron": "30 0 9 * * *"},
    {"cron": "@daily", "dst": {"fold": "both"}, "timezone": "America/New_York"},
    {"every": "1h30m"},
    {"every": "PT1H", "anchor": "2031-01-01T00:00:00+02:00", "jitter": "5m", "catch_up": "all"},
    {"every": 3600, "jitter": 0, "overlap": "queue", "max_runs": 3},
    {"rrule": "FREQ=WEEKLY;BYDAY=MO", "timezone": "Asia/Tokyo", "ends_at": "2033-01-01T00:00:00Z"},
    {"rrule": "RRULE:FREQ=DAILY", "starts_at": "2031-06-01T12:00:00.123456Z"},
    {"run_at": "2031-01-01T00:00:00.5+01:00"},
    {"run_at": "2031-07-01T18:00", "timezone": "Europe/Paris"},
    {"run_at": "2031-10-26T02:30", "timezone": "Europe/Paris", "dst": {"fold": "second"}},
    {"every": 7200.5, "retry": "none"},
    {"every": "P1D", "retry": "standard"},
    {"every": 3600, "retry": [0, "PT5S", 60]},
    {"every": 3600, "retry": {"max_attempts": 3, "base": "PT10S", "jitter": 0}},
    {"every": 3600, "retry": {"max_age": "PT1H", "factor": 2, "backoff": "exponential"}},
    {"every": 3600, "method": "PUT", "headers": {"X-A": "b"}, "timeout": "PT2.5S"},
    {"every": 3600, "payload": {"a": [1, 2.5, True, None, "ü"]}, "max_lateness": "1h"},
    {"every": 3600, "payload": "2031-01-01", "headers": {"content-type": "text/plain"}},
    {"every": 3600, "payload": [], "labels": {}, "user": "anna", "delivery": "at_most_once"},
    {"every": 3600, "headers": {}, "labels": {"team": "no"}, "payload": 12},
]


def write(path: Path, namespace: str, jobs: dict[str, Any], **more: Any) -> Path:
    file = path / "jobs.yaml"
    file.write_text(
        yaml.safe_dump({"namespace": namespace, "jobs": jobs, **more}, allow_unicode=True)
    )
    return file


def actions(ran: Ran) -> dict[str, str]:
    return {step["key"]: step["action"] for step in ran.documents}


def test_what_was_applied_is_as_it_should_be(commands: Commands, name: str, tmp_path: Path) -> None:
    """Each way to say a job is read back as the same: else it would be changed for ever."""
    jobs = {f"{name}-{number}": {"url": URL, **job} for number, job in enumerate(JOBS)}
    file = write(tmp_path, name, jobs)
    first = commands.run("apply", "-f", file, "--json")
    assert first.code == 0, first.err
    assert set(actions(first).values()) == {"create"}
    again = commands.run("apply", "-f", file, "--check", "--json")
    assert {key for key, action in actions(again).items() if action != "keep"} == set(), again.out
    assert again.code == 0


@pytest.mark.parametrize(
    "change",
    [
        {"url": f"{URL}/2"},
        {"timeout": 16},
        {"every": 3601},
        {"jitter": 5},
        {"cron": "@daily", "every": None},
        {"run_at": "2031-01-01T00:00:00Z", "every": None},
        {"payload": {"a": 1}},
        {"payload": False},
        {"headers": {"a": "b"}},
        {"labels": {"a": "b"}},
        {"retry": [1]},
        {"retry": {"max_attempts": 6}},
        {"catch_up": "none"},
        {"overlap": "skip"},
        {"max_runs": 3},
        {"max_lateness": 0},
        {"user": "anna"},
        {"delivery": "at_most_once"},
        {"method": "GET"},
        {"starts_at": "2031-01-01T00:00:00Z"},
        {"anchor": "2031-01-01T00:00:00Z"},
    ],
)
def test_every_field_makes_a_difference(change: dict[str, Any], onthedot: Onthedot) -> None:
    here = {"url": URL, "every": 3600}
    job = onthedot.jobs.create(**here)  # type: ignore[arg-type]
    assert differences(here, job) == {}
    found = differences({**here, **change}, job)
    assert set(found) >= {name for name, value in change.items() if value is not None}
    changed = {name: value for name, value in {**here, **change}.items() if value is not None}
    back = differences(here, onthedot.jobs.create(**changed))  # type: ignore[arg-type]
    if "anchor" not in change:  # which is the server's own choice, where the file has none
        assert back, "what the file has no more is put back"


def test_what_others_made_is_neither_changed_nor_pruned(
    commands: Commands, onthedot: Onthedot, name: str, tmp_path: Path
) -> None:
    mine = onthedot.jobs.put(f"{name}-a", URL, every=3_600)
    labels = {"onthedot/namespace": f"{name}-other"}
    theirs = onthedot.jobs.put(f"{name}-b", URL, every=3_600, labels=labels)
    file = write(tmp_path, name, {f"{name}-a": {"url": URL, "every": 60}})
    refused = commands.run("apply", "-f", file, "--prune", "--yes")
    assert (refused.code, "--adopt" in refused.err) == (2, True)
    assert onthedot.jobs.get(mine.id) == mine
    assert commands.run("apply", "-f", file, "--adopt", "--prune", "--yes").code == 0
    assert onthedot.jobs.get(mine.id).every == 60
    empty = write(tmp_path, name, {})
    assert commands.run("apply", "-f", empty, "--prune", "--yes").code == 0
    assert onthedot.jobs.get(mine.id).state == "ended"
    assert onthedot.jobs.get(theirs.id) == theirs


def test_what_was_changed_since_it_was_shown_is_not_pruned(
    commands: Commands, onthedot: Onthedot, name: str, tmp_path: Path
) -> None:
    labels = {"onthedot/namespace": name}
    job = onthedot.jobs.put(name, URL, every=3_600, labels=labels)
    terminal = commands.terminal("apply", "-f", write(tmp_path, name, {}), "--prune")
    terminal.sees("End 1 job(s)? [y/N]: ")
    onthedot.jobs.update(job.id, labels={"mine": "now"})
    terminal.types("y\r")
    assert terminal.ends() == 1
    assert "version" in terminal.text
    assert onthedot.jobs.get(job.id).state == "active"


def test_what_was_changed_or_made_since_it_was_shown_is_not_overwritten(
    commands: Commands, onthedot: Onthedot, name: str, tmp_path: Path
) -> None:
    labels = {"onthedot/namespace": name}
    changed, pruned = (
        onthedot.jobs.put(f"{name}-{which}", URL, every=3_600, labels=labels)
        for which in ("changed", "pruned")
    )
    jobs = {f"{name}-{which}": {"url": URL, "every": 60} for which in ("changed", "made")}
    terminal = commands.terminal("apply", "-f", write(tmp_path, name, jobs), "--prune")
    terminal.sees("End 1 job(s)? [y/N]: ")
    onthedot.jobs.update(changed.id, every=7_200)
    made = onthedot.jobs.put(f"{name}-made", URL, every=7_200)
    terminal.types("y\r")
    assert terminal.ends() == 1
    assert onthedot.jobs.get(changed.id).every == 7_200
    assert onthedot.jobs.get(made.id) == made
    assert onthedot.jobs.get(pruned.id).state == "ended"


def test_one_that_is_refused_does_not_keep_others_from_being_applied(
    commands: Commands, onthedot: Onthedot, name: str, tmp_path: Path
) -> None:
    jobs = {
        f"{name}-bad": {"url": "gopher://x", "every": 60},
        f"{name}-good": {"url": URL, "every": 60},
    }
    ran = commands.run("apply", "-f", write(tmp_path, name, jobs))
    assert ran.code == 1
    assert f"{name}-bad:\nError: " in ran.err
    assert "  url: Must be" in ran.err
    assert onthedot.jobs.get_by_key(f"{name}-good").every == 60


def test_no_secret_of_a_header_is_shown_in_json_either(tmp_path: Path) -> None:
    headers = {"X-Api-Token": "sesame", "X-Team": "billing"}
    file = write(tmp_path, "a", {"b": {"url": URL, "every": 60, "headers": headers}})
    with flaky() as server:
        server.script = [answer(200, NO_JOBS), problem(404, "job_not_found")]
        commands = Commands({"ONTHEDOT_URL": server.url})
        ran = commands.run("apply", "-f", file, "--dry-run", "--json")
    assert ran.document["changes"]["headers"]["new"] == {**headers, "X-Api-Token": "(hidden)"}


def test_a_check_exits_by_5_and_changes_nothing(
    commands: Commands, name: str, tmp_path: Path
) -> None:
    file = write(tmp_path, name, {name: {"url": URL, "every": 60}})
    assert commands.run("apply", "-f", file, "--check").code == 5
    assert commands.run("apply", "-f", file, "--dry-run").code == 0
    assert commands.run("jobs", "get", name).code == 3


async def test_what_has_run_is_not_run_again_and_what_was_ended_is_made_again(
    commands: Commands, onthedot: Onthedot, receiver: Receiver, name: str, tmp_path: Path
) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    once = {"url": receiver.url(), "run_at": soon}
    jobs = {f"{name}-once": once, f"{name}-ended": {"url": URL, "every": 60}}
    file = write(tmp_path, name, jobs)
    assert commands.run("apply", "-f", file).code == 0

    def is_over() -> None:
        assert onthedot.jobs.get_by_key(f"{name}-once").status == "succeeded"

    await eventually(is_over)
    onthedot.jobs.delete(onthedot.jobs.get_by_key(f"{name}-ended").id)
    ran = commands.run("apply", "-f", file, "--prune", "--yes", "--json")
    assert actions(ran) == {f"{name}-once": "keep", f"{name}-ended": "create"}
    assert onthedot.jobs.get_by_key(f"{name}-ended").state == "active"
    jobs = {f"{name}-once": {**once, "timeout": 3}, f"{name}-absent": once}
    ran = commands.run("apply", "-f", write(tmp_path, name, jobs), "--json")
    assert set(actions(ran).values()) == {"past"}
    assert commands.run("apply", "-f", file, "--check").code == 0
    assert len(receiver.calls) == 1


def test_an_interval_that_has_not_changed_counts_on_from_where_it_did(
    commands: Commands, onthedot: Onthedot, name: str, tmp_path: Path
) -> None:
    anchor = datetime(2025, 1, 1, 0, 0, 7, tzinfo=UTC)
    labels = {"onthedot/namespace": name}
    onthedot.jobs.put(name, URL, every=3_600, anchor=anchor, labels=labels)
    file = write(tmp_path, name, {name: {"url": URL, "every": 3_600, "timeout": 3}})
    assert commands.run("apply", "-f", file).code == 0
    job = onthedot.jobs.get_by_key(name)
    assert (job.anchor, job.timeout) == (anchor, 3)
    file = write(tmp_path, name, {name: {"url": URL, "every": 60, "timeout": 3}})
    assert commands.run("apply", "-f", file).code == 0
    assert onthedot.jobs.get_by_key(name).anchor != anchor


def test_what_is_refused_is_named_in_json_and_the_worst_exit_code_counts(tmp_path: Path) -> None:
    jobs = {key: {"url": URL, "every": 60} for key in "abc"}
    missing = [problem(404, "job_not_found")] * 3
    with flaky() as server:
        commands = Commands({"ONTHEDOT_URL": server.url})
        apply = ("apply", "-f", write(tmp_path, "n", jobs), "--json")
        server.script = [
            *(answer(200, NO_JOBS), *missing),
            problem(429, "too_many_requests", retry_after="3600"),
            problem(500, "internal"),
            problem(409, "conflict"),
        ]
        ran = commands.run(*apply)
    told = [json.loads(line)["error"] for line in ran.err.splitlines() if line.startswith("{")]
    assert [(each["key"], each["code"]) for each in told] == [
        *(("a", "too_many_requests"), ("b", "internal"), ("c", "conflict")),
    ]
    assert ran.code == 4


def test_an_apply_stops_where_there_is_no_server_any_more(tmp_path: Path) -> None:
    jobs = {key: {"url": URL, "every": 60} for key in "abc"}
    with flaky() as server:
        commands = Commands({"ONTHEDOT_URL": server.url})
        server.script = [answer(200, NO_JOBS), *[problem(404, "job_not_found")] * 3]
        server.closes_after = 4
        ran = commands.run("apply", "-f", write(tmp_path, "n", jobs), "--json")
    told = [json.loads(line)["error"] for line in ran.err.splitlines() if line.startswith("{")]
    # The first may still leave by the connection that is being closed.
    assert (told[-1]["code"], [each["key"] for each in told]) in [
        ("unreachable", ["a"]),
        ("unreachable", ["a", "b"]),
    ]
    assert (ran.code, f"{len(told) - 1} of 3" in ran.err) == (4, True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[]", "mapping"),
        ("jobs: {}", "namespace"),
        ("namespace: a b\njobs: {}", "namespace"),
        ("namespace: a\nnonsense: 1", "nonsense"),
        ("namespace: a\njobs: [1]", "jobs"),
        ("namespace: a\njobs: {b: 1}", "jobs.b"),
        ("namespace: a\njobs: {b: {}}", "jobs.b.url"),
        ("namespace: a\njobs: {b: {url: u, key: c}}", "jobs.b.key"),
        ("namespace: a\njobs: {'b c': {url: u}}", "jobs.b c"),
        ("namespace: a\njobs: {b: {url: u, every: soon}}", "jobs.b.every"),
        ("namespace: a\njobs: {b: {url: u}}", "jobs.b: must say when"),
        ("namespace: a\njobs: {b: {url: u, delay: 5}}", "say run_at"),
        ("namespace: a\njobs: {b: {url: u, every: 60, on_conflict: keep}}", "jobs.b.on_conflict"),
        ("namespace: a\njobs: {b: {url: u, evry: 60}}", "jobs.b.evry: is unknown"),
        ("namespace: a\ndefaults: {timeuot: 60}", "defaults.timeuot: is unknown"),
        ("namespace: a\njobs: {b: {url: u, cron: '@daily', dst: skip}}", "jobs.b.dst"),
        ("namespace: a\njobs: {..: {url: u, every: 60}}", "jobs..."),
        ("namespace: a\njobs: {b: {url: u, every: 60, payload: 1e999}}", "Out of range"),
        ("namespace: a\njobs: {b: {url: u, every: 60, payload: &a [*a]}}", "Circular"),
        ("namespace: a\njobs: {b: {url: u, every: 60, payload: !!binary aGk=}}", "not JSON"),
        ("namespace: a\njobs: {b: {url: u, every: 60, payload: {[1]: 2}}}", "unhashable"),
        (
            "namespace: a\njobs: {b: {url: u, run_at: 0001-01-01T00:00, timezone: Asia/Tokyo}}",
            "jobs.b.run_at",
        ),
        ("namespace: a\njobs: {b: {url: u, rrule: 'FREQ=DAILY;COUNT=3'}}", "max_runs"),
        (
            "namespace: a\njobs: {b: {url: u, every: 60, labels: {onthedot/namespace: c}}}",
            "namespace",
        ),
        ("namespace: a\njobs:\n  b: {url: u}\n  b: {url: v}", "comes twice"),
        (
            "namespace: a\njobs: {b: {url: u, run_at: 2031-03-30T02:30, timezone: Europe/Paris}}",
            "skip",
        ),
        ("namespace: [", "line 1"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_its_place(
    text: str, place: str, commands: Commands, tmp_path: Path
) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text(text)
    ran = commands.run("apply", "-f", file)
    assert (ran.code, ran.out) == (2, "")
    assert place in " ".join(ran.err.replace("│", " ").split())


def test_yaml_means_what_it_says(tmp_path: Path) -> None:
    """Not what YAML 1.1 makes of it: a country of false, a time of a number, a date of a day."""
    file = tmp_path / "jobs.yaml"
    file.write_text(
        "namespace: a\n"
        "jobs:\n"
        "  b:\n"
        "    url: u\n"
        "    every: 60\n"
        "    payload: {country: no, time: 12:30:00, day: 2031-01-01, n: 1e3, t: true, x: null}\n"
    )
    assert manifest.read(file).jobs["b"]["payload"] == {
        "country": "no",
        "time": "12:30:00",
        "day": "2031-01-01",
        "n": 1000.0,
        "t": True,
        "x": None,
    }


@settings(deadline=None, max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_a_file_in_json_is_read_as_json(payload: Any) -> None:
    with NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(
            {"namespace": "a", "jobs": {"b": {"url": "u", "every": 1, "payload": payload}}}, file
        )
        file.flush()
        assert manifest.read(Path(file.name)).jobs["b"]["payload"] == payload
