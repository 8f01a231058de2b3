"""What a person sees: each of these runs in a terminal of 100 columns."""

import json
import re
import shutil
import socket
import sys
import threading
from pathlib import Path

import httpx
import pytest

from onthedot import Onthedot
from tests.client.commands import COLUMNS, ROOT, Commands, Terminal
from tests.eventually import eventually

URL = "https://example.com/hook"
# Later Pythons warn of every fork in a process of several threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*forkpty:DeprecationWarning")
FILE = """\
namespace: {namespace}
jobs:
  {key}-report:
    url: https://example.com/report
    cron: "0 {hour} * * MON-FRI"
    timezone: Europe/Paris
    headers: {{Authorization: Bearer {token}}}
    payload: {{report: daily}}
"""


def test_help_fits_the_terminal_and_names_every_command(commands: Commands) -> None:
    terminal = commands.terminal("--help")
    assert terminal.ends() == 0
    lines = terminal.text.splitlines()
    assert max(map(len, lines)) <= COLUMNS
    for word in ("timers", "jobs", "apply", "listen", "--json", "130: interrupted by Ctrl-C"):
        assert word in terminal.text
    assert "\x1b[" in terminal.raw, "colours"


def test_a_table_keeps_ids_and_instants_and_shortens_what_is_long(
    commands: Commands, onthedot: Onthedot, name: str
) -> None:
    job = onthedot.jobs.create(
        f"https://example.com/{'long/' * 30}",
        run_at="2031-01-01T00:00:00Z",
        user=name,
        key=f"k-{name}",
    )
    terminal = commands.terminal("jobs", "list", "--user", name)
    assert terminal.ends() == 0
    head, row = terminal.text.splitlines()
    assert head.split() == ["ID", "KEY", "WHEN", "STATUS", "NEXT", "RUN", "URL"]
    assert row.split()[:5] == [str(job.id), f"k-{name}", "once", "upcoming", "2031-01-01T00:00:00Z"]
    assert row.rstrip().endswith("…")
    assert len(row) <= COLUMNS


def test_an_error_says_the_field_and_the_remedy(commands: Commands) -> None:
    terminal = commands.terminal("jobs", "create", "ftp://x", "--in", "5s")
    assert terminal.ends() == 1
    assert terminal.text.splitlines() == [
        "Error: The request does not follow the contract",
        "  url: Must be an absolute URL that starts with http:// or https://.",
    ]
    assert "\x1b[1;31mError:" in terminal.raw


def test_text_of_others_plays_no_tricks_on_the_terminal(
    commands: Commands, onthedot: Onthedot, name: str
) -> None:
    onthedot.jobs.create(URL, delay=60, user=name, payload="\x1b]0;owned\x07[red]\x1b[2J", key=name)
    terminal = commands.terminal("jobs", "get", name)
    assert terminal.ends() == 0
    assert "\x1b]0" not in terminal.raw
    assert "\x1b[2J" not in terminal.raw
    assert "[red]" in terminal.text


def test_apply_shows_the_difference_asks_and_prunes_only_its_own(
    commands: Commands, onthedot: Onthedot, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "jobs.yaml"
    other = onthedot.jobs.create(URL, every=3_600, key=f"{name}-other", labels={"a": "b"})
    gone = onthedot.jobs.create(
        URL, every=3_600, key=f"{name}-gone", labels={"onthedot/namespace": name}
    )
    said = {"namespace": name, "key": name}
    file.write_text(FILE.format(**said, hour=9, token="sesame-1"))
    first = commands.terminal("apply", "-f", file)
    assert first.ends() == 0
    assert f"+ {name}-report" in first.text
    assert "1 to create, 0 to change, 0 to end, 0 as they should be." in first.text

    file.write_text(FILE.format(**said, hour=8, token="sesame-2"))
    dry = commands.terminal("apply", "-f", file, "--prune", "--dry-run")
    assert dry.ends() == 0
    assert [line.rstrip() for line in dry.text.splitlines()] == [
        f"~ {name}-report",
        '    headers  {"Authorization": "(hidden)"} → {"Authorization": "(hidden)"}',
        "    cron     0 9 * * MON-FRI → 0 8 * * MON-FRI",
        f"- {name}-gone",
        "0 to create, 1 to change, 1 to end, 0 as they should be.",
    ]
    assert onthedot.jobs.get_by_key(f"{name}-report").cron == "0 9 * * MON-FRI"

    no = commands.terminal("apply", "-f", file, "--prune")
    no.sees("End 1 job(s)? [y/N]: ")
    no.types("n\r")
    assert no.ends() == 1
    assert onthedot.jobs.get_by_key(f"{name}-report").cron == "0 9 * * MON-FRI"

    yes = commands.terminal("apply", "-f", file, "--prune")
    yes.sees("End 1 job(s)? [y/N]: ")
    yes.types("y\r")
    assert yes.ends() == 0
    assert onthedot.jobs.get_by_key(f"{name}-report").cron == "0 8 * * MON-FRI"
    assert onthedot.jobs.get(gone.id).state == "ended"
    assert onthedot.jobs.get(other.id) == other
    assert commands.run("apply", "-f", file, "--prune", "--check").code == 0


def test_an_import_shows_how_far_it_is_on_a_terminal_only(
    commands: Commands, onthedot: Onthedot, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "jobs.ndjson"
    line = json.dumps({"url": URL, "delay": 3_600, "user": name})
    file.write_text("\n".join([line] * 2_500))
    terminal = commands.terminal("import", file)
    assert terminal.ends() == 0
    assert "Importing" in terminal.text
    assert "━" in terminal.text
    assert terminal.text.splitlines()[-1] == "2500 created, 0 replaced"
    piped = commands.run("import", "-", given=line)
    assert (piped.err, piped.out) == ("", "1 created, 0 replaced\n")
    assert onthedot.jobs.cancel(user=name).cancelled == 2_501


async def test_listen_prints_a_webhook_that_an_executor_sent(
    commands: Commands, onthedot: Onthedot
) -> None:
    terminal = commands.terminal("listen", "--port", 0)
    timer = onthedot.timers.create(f"{where_it_listens(terminal)}/hook", delay=1)
    terminal.sees('"attempt": 1}}')
    shown = terminal.text.splitlines()[-1]
    assert "POST /hook  webhook-id run_" in shown
    assert "  late " in shown
    assert "  attempt 1  signature holds  " in shown
    assert f'"id": {timer.id}' in shown.replace("\n", "")

    def is_delivered() -> None:
        assert onthedot.jobs.get(timer.id).status == "succeeded"

    await eventually(is_delivered)
    terminal.types("\x03")
    assert terminal.ends() == 130
    assert "Traceback" not in terminal.text


async def test_listen_tells_what_is_not_genuine_and_answers_as_it_was_told(
    commands: Commands, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("whsec_c2VjcmV0c2VjcmV0c2VjcmV0\n")
    listen = ("listen", "--port", 0, "--count", 1, "--status", 503, "--json")
    terminal = commands.terminal(*listen, "--secret-file", tmp_path / "secret")
    where = where_it_listens(terminal)
    async with httpx.AsyncClient() as http:
        answered = await http.post(f"{where}/x", content=b"\x1b[2J")
    assert answered.status_code == 503
    assert terminal.ends() == 0
    seen = json.loads(terminal.text.splitlines()[-1])
    assert (seen["genuine"], seen["path"], seen["late_ms"]) == (False, "/x", None)
    assert "\x1b[2J" not in terminal.raw


def where_it_listens(terminal: Terminal) -> str:
    found = re.search(r"Listening on (http://\S+), any path", terminal.sees("Ctrl-C ends it."))
    assert found is not None, terminal.text
    return found[1]


def test_a_port_that_is_taken_is_told(commands: Commands) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = commands.run("listen", "--port", taken.getsockname()[1])
    assert (ran.code, "--port" in ran.err) == (1, True)


def test_ctrl_c_at_a_question_does_nothing_and_exits_by_130(
    commands: Commands, onthedot: Onthedot, name: str
) -> None:
    job = onthedot.jobs.create(URL, every=3_600, user=name)
    terminal = commands.terminal("jobs", "cancel", "--user", name)
    terminal.sees("Cancel 1 job(s)? [y/N]: ")
    terminal.types("\x03")
    assert terminal.ends() == 130
    assert onthedot.jobs.get(job.id).state == "active"


def test_events_are_shown_as_they_happen_until_ctrl_c(
    commands: Commands, onthedot: Onthedot
) -> None:
    job = onthedot.jobs.create(URL, every=3_600)
    terminal = commands.terminal("events", "--job", job.id)
    stop = threading.Event()

    def stir() -> None:
        with Onthedot(commands.variables["ONTHEDOT_URL"]) as other:
            while not stop.wait(0.05):
                other.jobs.pause(job.id)
                other.jobs.resume(job.id)

    stirring = threading.Thread(target=stir)
    stirring.start()
    try:
        terminal.sees(f"job.resumed  job {job.id}")
    finally:
        stop.set()
        stirring.join()
    terminal.types("\x03")
    assert terminal.ends() == 130


def test_a_reader_that_leaves_ends_a_command_in_silence(
    commands: Commands, onthedot: Onthedot, name: str
) -> None:
    long = {"url": f"{URL}/{'x' * 1_500}", "delay": 3_600, "user": name}
    onthedot.jobs.create_batch([long] * 100)  # type: ignore[list-item]
    for form in ("--json", ""):
        command = f'"{sys.executable}" -m onthedot jobs list --user {name} --all {form} | head -1'
        script = f"{command}; echo ${{PIPESTATUS[0]}}"
        shell = Terminal("/bin/bash", ["-c", script], commands.variables)
        assert shell.ends() == 0
        assert shell.text.splitlines()[-1] == "141", form
        assert "Traceback" not in shell.text
    onthedot.jobs.cancel(user=name)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_shell_completes_commands(commands: Commands, tmp_path: Path) -> None:
    program = tmp_path / "bin/onthedot"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m onthedot "$@"\n')
    program.chmod(0o755)
    variables = {
        **commands.variables,
        "PATH": f"{program.parent}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT / "client"),
        "PS1": "ready$ ",
        "INPUTRC": "/dev/null",
    }
    shell = Terminal("/bin/bash", ["--norc", "--noprofile", "-i"], variables)
    shell.sees("ready$ ")
    shell.types('eval "$(onthedot --show-completion)"\r')
    shell.sees("ready$ ")
    shell.types("onthedot dead\t")
    shell.sees("onthedot dead-letters ")
    shell.types("rep\t")
    shell.sees("replay ")
    shell.types("\x15exit\r")
    assert shell.ends() == 0
