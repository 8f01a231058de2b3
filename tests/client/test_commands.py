"""What commands do, print and exit by, where there is no terminal."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from onthedot import Onthedot
from onthedot.call import IDEMPOTENCY_KEY
from onthedot.cli import profiles
from onthedot.cli.output import HIDDEN, without_secrets
from tests.client.commands import Commands, Ran
from tests.client.conftest import Server
from tests.client.flaky import DROP, answer, flaky, problem
from tests.eventually import eventually
from tests.processes import free_port
from tests.receiver import Receiver

URL = "https://example.com/hook"


def test_a_timer_is_created_shown_listed_and_deleted(commands: Commands) -> None:
    made = commands.json("timers", "create", URL, "--in", "4h1s", "--label", "a:b")
    assert made["time_left"] == 14_401
    assert commands.json("timers", "get", made["id"])["time_left"] <= 14_401
    listed = commands.run("timers", "list", "--json", "--limit", 1)
    assert listed.document["id"] == made["id"]
    assert commands.run("timers", "delete", made["id"]).code == 0
    gone = commands.run("timers", "get", made["id"])
    assert (gone.code, gone.out) == (3, "")
    assert gone.err == f"Error: There is no timer {made['id']}, or it was cancelled.\n"


def test_a_job_says_all_that_the_api_takes(commands: Commands, name: str, tmp_path: Path) -> None:
    (tmp_path / "payload.json").write_text('{"ü": [1]}', encoding="utf-8")
    job = commands.json(
        *("jobs", "create", URL, "--cron", "0 9 * * MON-FRI", "--timezone", "Europe/Paris"),
        *("--header", "X-A: b: c", "--header", "X-B:d", "--label", "team:a:b", "--user", name),
        *("--payload", f"@{tmp_path / 'payload.json'}", "--timeout", "2500ms", "--key", name),
        *("--retry", "5s,1m", "--delivery", "at_most_once", "--dst-gap", "skip"),
        *("--overlap", "queue", "--catch-up", "none", "--jitter", "1m30s", "--max-runs", 3),
        *("--starts-at", "+1d", "--method", "PUT", "--max-lateness", "PT1H"),
    )
    assert job["headers"] == {"X-A": "b: c", "X-B": "d"}
    assert (job["labels"], job["payload"]) == ({"team": "a:b"}, {"ü": [1]})
    assert (job["timeout"], job["jitter"], job["max_lateness"]) == (2.5, 90, 3_600)
    assert (job["retry"]["delays"], job["dst"]["gap"]) == ([5, 60], "skip")
    assert (job["overlap"], job["catch_up"], job["max_runs"]) == ("queue", "none", 3)
    ahead = datetime.fromisoformat(job["starts_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < ahead < timedelta(hours=25)
    for named in (name, f"key:{name}", job["id"]):
        assert commands.json("jobs", "get", named) == job


@pytest.mark.parametrize("payload", ["[]", "{}", "0", "false", '""'])
def test_a_payload_that_is_nearly_nothing_is_sent(payload: str, commands: Commands) -> None:
    job = commands.json("jobs", "create", URL, "--in", 60, "--payload", payload)
    assert job["payload"] == json.loads(payload)


def test_a_payload_of_null_is_one(commands: Commands, onthedot: Onthedot, name: str) -> None:
    commands.json("jobs", "create", URL, "--in", 60, "--payload", "null", "--key", name)
    [line] = [job for job in onthedot.jobs.export() if job.get("key") == name]
    assert ("payload" in line, line["payload"]) == (True, None)


def test_a_job_is_changed_paused_resumed_triggered_and_ended(commands: Commands, name: str) -> None:
    commands.json("jobs", "create", URL, "--every", "1h", "--key", name, "--label", "a:b")
    changed = commands.json(
        *("jobs", "update", name, "--timeout", 3, "--clear", "labels", "--version", 1)
    )
    assert (changed["timeout"], changed["labels"], changed["version"]) == (3, None, 2)
    stale = commands.run("jobs", "update", name, "--timeout", 4, "--version", 1)
    assert (stale.code, "version 2" in stale.err) == (1, True)
    assert commands.json("jobs", "pause", name)["state"] == "paused"
    assert commands.json("jobs", "resume", name)["state"] == "active"
    assert commands.json("jobs", "trigger", name)["job_id"] == changed["id"]
    assert commands.run("jobs", "update", name).code == 2
    assert commands.run("jobs", "update", name, "--clear", "url").code == 2
    assert commands.run("jobs", "delete", name).code == 0
    assert commands.run("jobs", "get", name).code == 3
    assert commands.json("jobs", "get", changed["id"])["state"] == "ended"


def test_a_dead_mans_timer_is_touched(commands: Commands, name: str) -> None:
    made = commands.json("jobs", "create", URL, "--in", "1h", "--key", name)
    assert commands.json("jobs", "touch", name)["version"] > made["version"]


def test_jobs_are_listed_by_every_filter(commands: Commands, name: str) -> None:
    for host in ("one.example", "two.example"):
        commands.json("jobs", "create", f"https://{host}/", "--in", "2h", "--label", f"of:{name}")
    both = ("jobs", "list", "--label", f"of:{name}")
    assert len(commands.run(*both, "--json").documents) == 2
    one = commands.run(
        *(*both, "--host", "one.example", "--status", "upcoming", "--from", "+1h", "--to", "+3h"),
        "--json",
    )
    assert one.document["url"] == "https://one.example/"
    for order in ("asc", "desc"):
        ids = [each["id"] for each in commands.run(*both, "--order", order, "--json").documents]
        assert ids == sorted(ids, reverse=order == "desc")
    short = commands.run(*both, "--limit", 1)
    assert short.err == "There are more than 1: --limit, or --all.\n"
    assert [len(short.out.splitlines()), "\x1b" in short.out] == [2, False]
    assert len(commands.run(*both, "--all").out.splitlines()) == 3


def test_without_a_terminal_nothing_is_cancelled_unasked(commands: Commands, name: str) -> None:
    commands.json("jobs", "create", URL, "--in", "1h", "--user", name)
    assert commands.json("jobs", "cancel", "--user", name, "--dry-run") == {
        "matched": 1,
        "cancelled": 0,
    }
    unasked = commands.run("jobs", "cancel", "--user", name)
    assert (unasked.code, "--yes" in unasked.err) == (2, True)
    assert commands.json("jobs", "cancel", "--user", name, "--yes")["cancelled"] == 1


def test_previews_and_validations_create_nothing(commands: Commands, name: str) -> None:
    shown = commands.run(
        *("jobs", "preview", "--cron", "30 2 * * *", "--timezone", "Europe/Paris", "--count", 2),
        *("--after", "2031-03-29T12:00:00Z"),
    )
    assert shown.out.splitlines()[1].split() == [
        *("2031-03-30T01:00:00Z", "2031-03-30T02:30:00", "shifted"),
    ]
    assert commands.run("jobs", "validate", "http://127.0.0.1:9/", "--in", 60).code == 0
    refused = commands.run("jobs", "validate", "gopher://x", "--in", 60, "--user", name)
    assert refused.code == 1
    assert "url: " in refused.err
    assert commands.run("jobs", "validate", URL, "--cron", "nonsense").code == 1
    assert not commands.run("jobs", "list", "--user", name, "--json").out


async def test_a_test_call_exits_by_what_was_expected(
    commands: Commands, receiver: Receiver
) -> None:
    def call(*more: object) -> Ran:
        return commands.run("jobs", "test", receiver.url("/status/418"), *more)

    assert (await asyncio.to_thread(call)).code == 1
    met = await asyncio.to_thread(call, "--expect-status", 418, "--expect-body", "receiver")
    assert met.code == 0
    assert "the receiver says so" in met.out
    missed = await asyncio.to_thread(call, "--expect-status", 200)
    assert (missed.code, "not met" in missed.out) == (1, True)


async def test_a_dead_letter_is_listed_and_replayed(
    commands: Commands, onthedot: Onthedot, receiver: Receiver
) -> None:
    job = onthedot.jobs.create(receiver.url("/status/404"))

    def is_dead() -> None:
        assert onthedot.jobs.get(job.id).status == "failed"

    await eventually(is_dead)
    host = ("--host", "127.0.0.1", "--from", "-1h")
    letters = commands.run("dead-letters", "list", *host, "--json").documents
    [letter] = [each for each in letters if each["job_id"] == job.id]
    assert letter["http_status"] == 404
    [attempt] = commands.run("jobs", "history", job.id, "--json").documents
    assert attempt["scheduled_for"] == letter["scheduled_for"]
    one = commands.json("dead-letters", "replay", job.id, letter["scheduled_for"])
    assert (one["job_id"], one["attempt"]) == (job.id, 2)
    assert commands.run("dead-letters", "replay").code == 2
    unasked = commands.run("dead-letters", "replay", *host)
    assert (unasked.code, "--yes" in unasked.err) == (2, True)
    await eventually(is_dead)
    assert commands.json("dead-letters", "replay", job.id) == {"replayed": 1}
    shown = commands.run("executions", "list", "--status", "failed", "--host", "127.0.0.1")
    assert str(job.id) in shown.out


def test_a_schedule_is_created_changed_and_deleted(commands: Commands, name: str) -> None:
    minute = int(datetime.now(UTC).timestamp() // 60) + 100
    at = ("--payload", name, "--minute", minute)
    made = commands.json("schedules", "create", *at, "--url", URL, "--recurring", "daily")
    changed = commands.json("schedules", "update", made["jobId"], *at, "--recurring", "none")
    assert commands.json("schedules", "get", made["jobId"]) == changed
    listed = commands.run("schedules", "list", "--all", "--json").documents
    assert changed in listed
    assert commands.run("schedules", "delete", made["jobId"]).code == 0
    assert commands.run("schedules", "get", made["jobId"]).code == 3


def test_figures_are_shown(commands: Commands) -> None:
    assert commands.json("ledger")["adds_up"] is True
    assert "ADDS_UP" not in commands.run("ledger").out
    stats = commands.run("stats", "--by", "day,status", "--from", "-1d")
    assert stats.out.split()[:3] == ["DAY", "STATUS", "DONE"]
    assert commands.run("stats", "--by", "nonsense").code == 2
    forecast = commands.json("forecast", "--bucket", "10m", "--horizon", "1h")
    assert forecast["bucket"] == 600


def test_an_export_comes_back_by_an_import(commands: Commands, name: str, tmp_path: Path) -> None:
    file = tmp_path / "jobs.ndjson"
    commands.json("jobs", "create", URL, "--cron", "@daily", "--key", name)
    assert commands.run("export", "--output", file).code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    lines = [line for line in file.read_text().splitlines() if json.loads(line).get("key") == name]
    assert lines
    again = commands.json("import", "-", given="\n".join([*lines, "", '{"url": "https://a.b"}']))
    assert again == {"created": 1, "replaced": 1}


def test_an_import_goes_in_pieces_and_names_the_line(
    commands: Commands, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "jobs.ndjson"
    lines = [json.dumps({"url": URL, "delay": 3_600, "user": name}) for _ in range(1_004)]
    lines[1_002] = json.dumps({"url": "gopher://x"})
    file.write_text("\n".join(lines))
    refused = commands.run("import", file)
    assert (refused.code, refused.out) == (1, "")
    assert "line 1003 url: " in refused.err
    assert refused.err.endswith("go on by --from-line 1001.\n")
    file.write_text("\n".join([*lines[:1_002], lines[0], lines[0]]))
    assert commands.json("import", file, "--from-line", 1_001)["created"] == 4
    assert commands.json("jobs", "cancel", "--user", name, "--yes")["cancelled"] == 1_004
    assert commands.run("import", tmp_path / "nowhere").code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("jobs", "create", URL, "--in", "soon"), "soon"),
        (("jobs", "create", URL, "--payload", "{"), "valid JSON"),
        (("jobs", "create", URL, "--payload", "@/nowhere"), "Cannot read"),
        (("jobs", "create", URL, "--header", "nothing"), "Name: value"),
        (("jobs", "create", URL, "--label", "nothing"), "name:value"),
        (("jobs", "list", "--from", "-PT1H"), "no instant"),
        (("timers", "create", URL, "--in", "1500ms"), "whole seconds"),
        (("timers", "create", URL), "--in"),
        (("jobs", "list", "--status", "merry"), "upcoming"),
        (("jobs", "get", ".."), "cannot be reached"),
        (("nonsense",), "nonsense"),
        (("jobs", "list", "--server", "localhost:80"), "http://"),
        (("jobs", "list", "--profile", "nobody"), "nobody"),
    ],
)
def test_what_makes_no_sense_exits_by_2_and_says_why(
    arguments: tuple[str, ...], said: str, commands: Commands
) -> None:
    ran = commands.run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in " ".join(ran.err.replace("│", " ").split())


def test_a_refusal_names_the_field_and_the_remedy(commands: Commands) -> None:
    refused = commands.run("jobs", "create", "ftp://x", "--cron", "@daily", "--timezone", "Mars/X")
    assert refused.code == 1
    assert refused.err.splitlines() == [
        "Error: The request does not follow the contract",
        "  url: Must be an absolute URL that starts with http:// or https://.",
    ]
    told = json.loads(commands.run("--json", "jobs", "create", "ftp://x").err)
    assert told["error"]["code"] == "invalid_request"
    assert [each["pointer"] for each in told["error"]["errors"]] == ["#/url"]


def test_nobody_there_exits_by_4_and_says_what_to_do(commands: Commands) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    ran = commands.run("--server", nowhere, "ledger")
    assert ran.code == 4
    assert ran.err.startswith(f"Error: {nowhere}: Cannot connect")
    assert "ONTHEDOT_URL" in ran.err
    with flaky() as server:
        server.script = [problem(500, "internal", x_request_id="req-9")]
        ran = commands.run("jobs", "pause", 1, ONTHEDOT_URL=server.url)
        assert (ran.code, ran.err) == (4, "Error: Because.\n  request: req-9\n")


def test_a_lost_answer_is_told_from_a_server_that_is_not_there() -> None:
    with flaky() as server:
        server.script = [DROP, problem(429, "too_many_requests", retry_after="3600")]
        commands = Commands({"ONTHEDOT_URL": server.url})
        ran = commands.run("jobs", "pause", 1, "--json")
        # Sent again, and refused for long: a script is to come back later.
        assert (ran.code, json.loads(ran.err)["error"]["code"]) == (4, "too_many_requests")
        server.script = [DROP]
        ran = commands.run("jobs", "touch", "a", "--json")
        assert (ran.code, json.loads(ran.err)["error"]["code"]) == (4, "no_answer")
        server.script = [DROP]
        ran = commands.run("jobs", "touch", "a")
        assert "may have been processed" in ran.err
        assert "before you send it again" in ran.err
    nowhere = f"http://127.0.0.1:{free_port()}"
    ran = commands.run("jobs", "touch", "a", "--json", "--server", nowhere)
    assert (ran.code, json.loads(ran.err)["error"]["code"]) == (4, "unreachable")


def test_an_import_whose_answer_was_lost_says_the_key_to_go_on_by(tmp_path: Path) -> None:
    file = tmp_path / "jobs.ndjson"
    file.write_text(f'\n{{"url": "{URL}", "payload": "\u2028"}}\n')
    with flaky() as server:
        commands = Commands({"ONTHEDOT_URL": server.url})
        server.script = [DROP] * 4
        ran = commands.run("import", file, "--from-line", 2)
        assert (ran.code, ran.out) == (4, "")
        assert "Whether lines 2 to 2 were taken is unknown" in ran.err
        found = re.search(r"go on by (--from-line 2 --idempotency-key \S+)\.$", ran.err.strip())
        assert found is not None, ran.err
        server.script = [answer(200, b'{"created": 1, "replaced": 0}')]
        assert commands.json("import", file, *found[1].split())["created"] == 1
    assert len({(asked.headers[IDEMPOTENCY_KEY], asked.body) for asked in server.asked}) == 1


@pytest.mark.parametrize(
    "command",
    [("jobs", "create", URL), ("timers", "create", URL, "--in", 60), ("jobs", "trigger", 1)],
)
def test_a_key_of_one_s_own_is_sent(command: tuple[object, ...]) -> None:
    with flaky() as server:
        commands = Commands({"ONTHEDOT_URL": server.url})
        server.script = [problem(403, "forbidden")]
        assert commands.run(*command, "--idempotency-key", "mine-7").code == 1
        assert commands.run(*command, "--idempotency-key", "two words").code == 2
    assert [asked.headers[IDEMPOTENCY_KEY] for asked in server.asked] == ["mine-7"]


def test_colours_that_are_forced_make_no_terminal_to_ask_on() -> None:
    with flaky() as server:
        server.script = [answer(200, b'{"matched": 3, "cancelled": 0}')]
        commands = Commands({"ONTHEDOT_URL": server.url, "FORCE_COLOR": "1"})
        ran = commands.run("jobs", "cancel", "--user", "anna", given="y\n")
    assert (ran.code, len(server.asked)) == (2, 1)
    assert "terminal" in ran.err


@pytest.mark.parametrize("delay", ["4h1s", "PT4H1S", "pt4h1s", "14401"])
def test_a_timer_takes_every_way_to_say_whole_seconds(delay: str) -> None:
    with flaky() as server:
        server.script = [answer(201), answer(201)]
        commands = Commands({"ONTHEDOT_URL": server.url})
        assert commands.run("timers", "create", URL, "--in", delay).code == 0
        if delay.isupper():
            with Onthedot(server.url) as client:
                client.timers.create(URL, delay=delay)
    assert {json.loads(asked.body)["seconds"] for asked in server.asked} == {14_401}


@pytest.mark.parametrize(
    "arguments",
    [
        ("timers", "create", URL, "--in", "PT1.5S"),
        ("timers", "create", URL, "--in", "P1X"),
        ("timers", "create", URL, "--in", "9" * 400),
        ("jobs", "create", URL, "--at", "+9999999999d"),
        ("jobs", "create", URL, "--payload", "NaN"),
        ("jobs", "create", URL, "--payload", r'"\ud800"'),
    ],
)
def test_what_no_request_can_carry_is_refused(arguments: tuple[str, ...]) -> None:
    ran = Commands({"ONTHEDOT_URL": "http://127.0.0.1:9"}).run(*arguments)
    assert (ran.code, ran.out) == (2, ""), ran.err


def test_headers_that_hold_a_secret_are_hidden_whatever_they_are_called() -> None:
    secret = ["Authorization", "X-Api-Key", "api_token", "Cookie", "X-Client-Secret", "password"]
    shown = without_secrets({**dict.fromkeys(secret, "sesame"), "X-Team": "billing"})
    assert shown == {**dict.fromkeys(secret, HIDDEN), "X-Team": "billing"}


class TestProfiles:
    """A file of names for servers and keys."""

    def test_a_profile_is_kept_for_its_owner_alone_and_its_key_is_never_shown(
        self, commands: Commands, tmp_path: Path
    ) -> None:
        kept = ("profile", "set", "prod", "--url", "https://prod.example", "--key")
        said = commands.run(*kept, given="sesame-7\n")
        assert said.code == 0, said.err
        file = tmp_path / "settings/onthedot/profiles.toml"
        assert file.stat().st_mode & 0o777 == 0o600
        assert "sesame-7" in file.read_text()
        shown = commands.run("profile", "list")
        assert shown.out.splitlines()[1].split() == ["*", "prod", "https://prod.example", "kept"]
        as_json = commands.json("profile", "list")
        assert as_json == {
            "name": "prod",
            "url": "https://prod.example",
            "has_key": True,
            "in_use": True,
        }
        for ran in (said, shown):
            assert "sesame-7" not in ran.out + ran.err

    def test_the_command_line_goes_before_the_environment_and_that_before_the_profile(
        self, commands: Commands
    ) -> None:
        with flaky() as server, flaky() as other:
            nothing = {"ONTHEDOT_URL": ""}
            commands.run("profile", "set", "here", "--url", server.url, "--key", given="of-here\n")
            commands.run("profile", "set", "there", "--url", other.url)
            server.script = [answer(200)] * 3
            other.script = [answer(200)] * 3
            get = ("timers", "get", 1)
            assert commands.run(*get, **nothing).code == 0
            assert commands.run(*get, **nothing, ONTHEDOT_API_KEY="of-environment").code == 0
            assert commands.run(*get, "--api-key", "said", ONTHEDOT_URL=server.url).code == 0
            assert [asked.headers.get("authorization") for asked in server.asked] == [
                *("Bearer of-here", "Bearer of-environment", "Bearer said"),
            ]
            assert commands.run(*get, ONTHEDOT_URL=other.url).code == 0
            assert commands.run("--profile", "there", *get, **nothing).code == 0
            assert commands.run("profile", "use", "there").code == 0
            assert commands.run(*get, **nothing).code == 0
            assert not [asked for asked in other.asked if "authorization" in asked.headers], (
                "the key of one server went to another"
            )

    def test_a_profile_that_is_said_goes_before_the_environment_with_its_key(
        self, tmp_path: Path
    ) -> None:
        settings = {"XDG_CONFIG_HOME": str(tmp_path)}
        with flaky() as server, flaky() as other:
            there = {"ONTHEDOT_URL": other.url, "ONTHEDOT_API_KEY": "of-environment"}
            commands = Commands({**settings, **there})
            commands.run("profile", "set", "kept", "--url", server.url, "--key", given="of-it\n")
            commands.run("profile", "set", "bare", "--url", server.url)
            server.script = [answer(200)] * 4
            other.script = [answer(200)]
            get = ("timers", "get", 1)
            assert commands.run(*get, "--profile", "kept").code == 0
            assert commands.run("--profile", "bare", *get).code == 0
            assert commands.run(*get, "--profile", "kept", "--api-key", "said").code == 0
            assert commands.run(*get, "--profile", "kept", "--server", other.url).code == 0
        assert [asked.headers.get("authorization") for asked in server.asked] == [
            *("Bearer of-it", None, "Bearer said"),
        ]
        assert [asked.headers.get("authorization") for asked in other.asked] == [None]

    def test_a_changed_address_forgets_the_key(self, commands: Commands) -> None:
        commands.run("profile", "set", "a", "--url", "https://a.example", "--key", given="k\n")
        moved = commands.run("profile", "set", "a", "--url", "https://b.example")
        assert "forgotten" in moved.err
        assert commands.json("profile", "list")["has_key"] is False
        assert commands.run("profile", "remove", "a").code == 0
        assert commands.run("profile", "remove", "a").code == 2

    def test_what_is_no_profile_is_refused(self, commands: Commands, tmp_path: Path) -> None:
        assert commands.run("profile", "set", "a b", "--url", "https://a.example").code == 2
        assert commands.run("profile", "set", "a", "--url", "a.example").code == 2
        assert commands.run("profile", "set", "a").code == 2
        file = tmp_path / "settings/onthedot/profiles.toml"
        file.parent.mkdir(parents=True)
        file.write_text("nonsense")
        broken = commands.run("profile", "list")
        assert (broken.code, "profiles.toml" in broken.err.replace("\n", "")) == (2, True)

    def test_a_file_that_others_can_read_is_told(self, commands: Commands, server: Server) -> None:
        commands.run("profile", "set", "a", "--url", server.url, "--key", given="k\n")
        variables = {"ONTHEDOT_URL": ""}
        assert commands.run("ledger", **variables).err == ""
        settings = commands.variables["XDG_CONFIG_HOME"]
        (Path(settings) / "onthedot/profiles.toml").chmod(0o644)
        assert "chmod 600" in commands.run("ledger", **variables).err


def test_a_key_does_not_show_in_what_a_profile_is() -> None:
    assert "sesame" not in repr(profiles.Profile("https://a.example", "sesame"))
