"""`make up` and the launchers beneath it: what they start comes back, and never outlives them."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from standardwebhooks import Webhook

from local_stack import ports
from local_stack.binaries import Binaries, postgres_bindir
from local_stack.postgres import Postgres
from local_stack.problems import BinariesMissingError, OtherMajorVersionError, PasswordLostError
from local_stack.valkey import Valkey
from tests.eventually import eventually

PROJECT = Path(__file__).parents[2]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


def is_alive(pid: int) -> bool:
    """Whether it runs. A zombie doesn't: whose task it is to reap orphans may take its time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    listed = subprocess.check_output(["ps", "-A", "-o", "pid=,ppid="], text=True)
    pairs = [line.split() for line in listed.splitlines()]
    return [int(child) for child, parent in pairs if int(parent) == pid]


def answer(server: Postgres, query: str) -> object:
    with psycopg.connect(server.url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


# The launchers


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    # With a space, and longer than the 107 bytes that the path of a unix socket may have.
    with Postgres(tmp_path_factory.mktemp("a directory") / ("long" * 25)) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("create table kept as select 1 as number")
        yield server


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("a directory") / "redis") as server:
        yield server


@pytest.fixture
def stopped(postgres: Postgres) -> Iterator[Postgres]:
    """The same server, to be started by the test."""
    postgres.stop()
    yield postgres
    postgres.start()


def test_postgres_keeps_its_data_and_its_url_when_it_is_stopped_and_started(postgres: Postgres):
    url = postgres.url
    postgres.stop()
    postgres.start()
    assert postgres.url == url
    assert answer(postgres, "select number from kept") == 1


def test_postgres_comes_back_with_what_was_committed_before_it_was_killed(postgres: Postgres):
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("create table committed as select 2 as number")
        postgres.kill()
        assert not postgres.is_running
        postgres.start()
    assert answer(postgres, "select number from committed") == 2


def test_postgres_starts_although_a_stranger_has_the_pid_of_its_killed_predecessor(
    postgres: Postgres,
):
    postgres.kill()
    pid_file = postgres.cluster / "postmaster.pid"
    _, *rest = pid_file.read_text().splitlines(keepends=True)
    pid_file.write_text("".join((f"{os.getppid()}\n", *rest)))
    postgres.start()
    assert answer(postgres, "select number from kept") == 1


def test_postgres_is_durable_and_asks_for_a_password_on_the_loopback_interface_alone(
    postgres: Postgres,
):
    assert answer(postgres, "select current_setting('fsync')") == "on"
    assert answer(postgres, "select current_setting('synchronous_commit')") == "on"
    assert answer(postgres, "select current_setting('listen_addresses')") == "127.0.0.1"
    assert answer(postgres, "select current_setting('unix_socket_directories')") == ""
    password = postgres.password_file.read_text()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url.replace(password, "wrong"))
    assert postgres.password_file.stat().st_mode & 0o777 == 0o600
    assert postgres.data_directory.stat().st_mode & 0o777 == 0o700


def test_postgres_says_what_to_do_about_data_of_another_major_version(stopped: Postgres):
    version_file = stopped.cluster / "PG_VERSION"
    written_by = version_file.read_text()
    version_file.write_text("9\n")
    try:
        with pytest.raises(
            OtherMajorVersionError, match=r"(?s)written by PostgreSQL 9,.*PG_BINDIR"
        ):
            stopped.start()
    finally:
        version_file.write_text(written_by)


def test_postgres_says_so_when_its_password_is_lost(stopped: Postgres):
    elsewhere = stopped.password_file.rename(stopped.password_file.with_name("elsewhere"))
    try:
        with pytest.raises(PasswordLostError):
            stopped.start()
    finally:
        elsewhere.rename(stopped.password_file)


def test_postgres_starts_over_when_its_first_start_was_cut_off(tmp_path: Path):
    unfinished = tmp_path / "cluster.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    with Postgres(tmp_path, settings={"fsync": "off"}) as server:
        assert answer(server, "select 1") == 1


def test_postgres_outlives_the_thread_that_started_it(stopped: Postgres):
    thread = threading.Thread(target=stopped.start)
    thread.start()
    thread.join()
    assert answer(stopped, "select number from kept") == 1
    assert stopped.is_running


def test_postgres_is_taken_from_where_a_person_says(tmp_path: Path):
    bindir = postgres_bindir(Binaries().pg_bindir)
    (tmp_path / "postgres").symlink_to(bindir / "postgres")
    with pytest.raises(BinariesMissingError, match="PG_BINDIR"):
        postgres_bindir(tmp_path)
    (tmp_path / "initdb").symlink_to(bindir / "initdb")
    assert postgres_bindir(tmp_path) == tmp_path


def test_valkey_keeps_its_data_and_its_url_when_it_is_stopped_and_started(valkey: Valkey):
    url = valkey.url
    with redis.Redis.from_url(valkey.url) as client:
        client.set("kept", "1")
    valkey.stop()
    valkey.start()
    assert valkey.url == url
    with redis.Redis.from_url(valkey.url) as client:
        assert client.get("kept") == b"1"


def test_valkey_comes_back_after_it_was_killed(valkey: Valkey):
    with redis.Redis.from_url(valkey.url) as client:
        client.set("kept", "2")
        client.waitaof(1, 0, 2_000)
    valkey.kill()
    valkey.start()
    with redis.Redis.from_url(valkey.url) as client:
        assert client.get("kept") == b"2"


def test_valkey_asks_for_a_password_and_evicts_nothing(valkey: Valkey):
    with (
        redis.Redis(port=valkey.port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    with redis.Redis.from_url(valkey.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


@only_linux
def test_passwords_are_on_no_command_line(postgres: Postgres, valkey: Valkey):
    for server in (postgres, valkey):
        assert server.process is not None
        command_line = Path(f"/proc/{server.process.pid}/cmdline").read_text()
        assert server.password_file.read_text() not in command_line


# Starts a server of each kind, tells their pids, and dies.
DOOMED = """
import os, signal, sys
from pathlib import Path
from local_stack.postgres import Postgres
from local_stack.valkey import Valkey
for server in Postgres(Path(sys.argv[1])), Valkey(Path(sys.argv[2])):
    server.start()
    print(server.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def started_by_one_who_was_killed(postgres: Postgres, valkey: Valkey) -> list[int]:
    directories = (str(postgres.data_directory), str(valkey.data_directory))
    with subprocess.Popen(
        [sys.executable, "-c", DOOMED, *directories], cwd=PROJECT, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        return [int(line) for line in starter.stdout]


@only_linux
async def test_servers_leave_when_their_starter_is_killed(stopped: Postgres, valkey: Valkey):
    valkey.stop()
    pids = started_by_one_who_was_killed(stopped, valkey)
    assert len(pids) == 2

    def both_are_gone() -> None:
        assert not any(is_alive(pid) for pid in pids)

    await eventually(both_are_gone)
    valkey.start()
    stopped.start()
    assert answer(stopped, "select number from kept") == 1


# `make up` and `make receiver`


OF_THE_STACK = {"PORT", "EXECUTORS", "DATA_DIR", "DATABASE_URL", "REDIS_URL", "MAKELEVEL"}
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()  # noqa: TID251  # handed on to children
    if name not in OF_THE_STACK
}


class Command:
    """A `python -m …` as a person runs it, and what it has said."""

    def __init__(
        self, module: str, directory: Path, *, of: tuple[str, ...] = (), **variables: object
    ):
        self.output = directory / f"{module}.output"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*of, sys.executable, "-m", module],
                cwd=PROJECT,
                env={**ENVIRONMENT, **{name: str(value) for name, value in variables.items()}},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    async def says(self, *words: str) -> None:
        def it_does() -> None:
            has_ended = self.process.poll() is not None
            missing = [word for word in words if word not in self.said]
            if missing and has_ended:
                raise RuntimeError(f"it ended without a word of {missing}: {self.said}")
            assert not missing, self.said

        await eventually(it_does, within=60)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


class Up(Command):
    """A `make up` on a data directory and a port of its own."""

    def __init__(self, directory: Path, **variables: object) -> None:
        self.data = directory / "the data"
        self.port = ports.choose()
        given = {"DATA_DIR": self.data, "PORT": self.port, "EXECUTORS": 1, **variables}
        super().__init__("local_stack", directory, **given)

    def request(self, method: str, path: str, body: object = None) -> dict[str, object]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        headers = {"content-type": "application/json"}
        connection.request(method, path, body=json.dumps(body) if body else None, headers=headers)
        response = connection.getresponse()
        answered = json.loads(response.read())
        connection.close()
        assert response.status < 300, answered
        return dict(answered)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("up"), EXECUTORS=2)
    yield up
    assert up.end() == 0


def end_of(module: str, directory: Path, **variables: object) -> tuple[int, str]:
    command = Command(module, directory, **variables)
    return command.process.wait(30), command.said


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PORT": "abc"}, "PORT=abc is not a port, 1 to 65535. Try: make up PORT=8090"),
        ({"PORT": "99999"}, "PORT=99999 is not a port"),
        ({"EXECUTORS": "0"}, "EXECUTORS=0 is not a number of executors, 1 to 32"),
        (
            {"DATABASE_URL": "mysql://me:hunter2@db/a"},
            "DATABASE_URL is not the URL of a Postgres",
        ),
        ({"REDIS_URL": "127.0.0.1:6379"}, "REDIS_URL is not the URL of a Redis"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, variables: dict[str, object], words: str
):
    status, said = end_of("local_stack", tmp_path, DATA_DIR=tmp_path / "data", **variables)
    assert status == 2
    assert said.startswith(words)
    assert said.count("\n") == 1
    assert "hunter2" not in said


def test_a_port_that_is_taken_is_named_with_the_way_out(tmp_path: Path):
    with socket.create_server(("127.0.0.1", ports.choose())) as listener:
        port = listener.getsockname()[1]
        status, said = end_of("local_stack", tmp_path, DATA_DIR=tmp_path / "data", PORT=port)
        assert (status, said.count("\n")) == (1, 1)
        assert f"Port {port} is taken by another program. Choose another one: make up PORT=" in said
        status, said = end_of("local_stack.receiver", tmp_path, RECEIVER_PORT=port)
        assert (status, said.count("\n")) == (1, 1)
        assert f"Port {port} is taken by another program." in said
        assert "make receiver RECEIVER_PORT=" in said


def test_a_data_directory_that_is_a_file_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    status, said = end_of("local_stack", tmp_path, DATA_DIR=tmp_path / "file", PORT="")
    assert (status, said.count("\n")) == (1, 1)
    assert f"DATA_DIR={tmp_path / 'file'} can't hold the data: File exists" in said


async def test_up_says_what_runs_where_without_a_password(up: Up):
    await up.says("Onthedot runs.")
    for words in (f"http://127.0.0.1:{up.port}/docs", "executor-2", "make receiver DATA_DIR="):
        assert words in up.said
    for server in ("postgres", "redis"):
        password = up.data / server / "password"
        assert f"password in {password}" in up.said
        assert password.read_text() not in up.said


async def test_a_second_up_on_the_same_directory_is_told_about_the_first(up: Up, tmp_path: Path):
    await up.says("Onthedot runs.")
    status, said = end_of("local_stack", tmp_path, DATA_DIR=up.data)
    assert (status, said.count("\n")) == (1, 1)
    assert f"Another `make up` (process {up.process.pid}) is running on {up.data}." in said


async def test_a_timer_makes_the_whole_trip_to_the_receiver(up: Up, tmp_path: Path):
    port = ports.choose()
    receiver = Command("local_stack.receiver", tmp_path, DATA_DIR=up.data, RECEIVER_PORT=port)
    await receiver.says(f"Receiving on http://127.0.0.1:{port}")
    await up.says("Onthedot runs.")
    body = {"seconds": 1, "url": f"http://127.0.0.1:{port}/hook", "payload": {"hello": "there"}}
    up.request("POST", "/timers", body)
    await receiver.says("POST /hook", "attempt: 1", "signature: holds", '{"hello":"there"}')
    assert receiver.end(signal.SIGINT) == 0


async def test_a_receiver_asks_a_handler_for_the_secret_and_again_when_it_is_rotated(
    up: Up, tmp_path: Path
):
    port = ports.choose()
    await up.says("Onthedot runs.")
    handler = f"http://127.0.0.1:{up.port}"
    receiver = Command("local_stack.receiver", tmp_path, HANDLER_URL=handler, RECEIVER_PORT=port)
    await receiver.says("Receiving on")
    for path in ("/asked", "/asked-again"):
        up.request("POST", "/timers", {"seconds": 1, "url": f"http://127.0.0.1:{port}{path}"})
        await receiver.says(f"POST {path} ")
        (line,) = (line for line in receiver.said.splitlines() if f"POST {path} " in line)
        assert "signature: holds" in line
        up.request("POST", "/applications/1/signing-secret/rotate", {"overlap": 0})
    assert receiver.end() == 0


def test_a_receiver_names_a_variable_that_cannot_be_used(tmp_path: Path):
    status, said = end_of("local_stack.receiver", tmp_path, HANDLER_URL="127.0.0.1:8080")
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith("HANDLER_URL=127.0.0.1:8080 is not the URL of a handler. Try: make")


async def test_what_is_killed_comes_back(up: Up):
    await up.says("Onthedot runs.")
    (executor,) = re.findall(r"executor-1 .*\(process (\d+)\)", up.said)
    postmaster = (up.data / "postgres/cluster/postmaster.pid").read_text().split()[0]
    for pid in (executor, postmaster):
        os.kill(int(pid), signal.SIGKILL)
    for name in ("executor-1", "postgres"):
        await up.says(f"{name} was ended by SIGKILL", f"{name} is started again")

    def timers_are_accepted() -> None:
        body = {"hours": 1, "url": "http://127.0.0.1:9000/hook"}
        try:
            up.request("POST", "/timers", body)
        except (OSError, http.client.HTTPException) as error:
            raise AssertionError(str(error)) from None

    await eventually(timers_are_accepted)


@only_linux
async def test_everything_goes_when_up_is_killed_and_the_next_one_finds_the_data(tmp_path: Path):
    first = Up(tmp_path)
    await first.says("Onthedot runs.")
    timer = first.request("POST", "/timers", {"hours": 1, "url": "http://127.0.0.1:9000/hook"})
    pids = children_of(first.process.pid)
    assert len(pids) == 4
    first.end(signal.SIGKILL)
    # At once, on the same port and data: it is for the second one to wait where it must.
    second = Up(tmp_path, PORT=first.port)
    second.port = first.port
    await second.says("Onthedot runs.")
    assert not any(is_alive(pid) for pid in pids)
    assert second.request("GET", f"/timers/{timer['id']}")["id"] == timer["id"]
    pids = children_of(second.process.pid)
    assert second.end() == 0
    assert not any(is_alive(pid) for pid in pids)
    assert second.said.rstrip().endswith(f"Stopped. The data stays in {second.data}.")


@only_linux
async def test_up_uses_servers_of_ones_own_and_goes_with_the_make_that_runs_it(
    postgres: Postgres, valkey: Valkey, tmp_path: Path
):
    port, data = ports.choose(), tmp_path / "data"
    urls = {"DATABASE_URL": postgres.url, "REDIS_URL": valkey.url}
    make = (sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])")
    up = Command(
        "local_stack", tmp_path, of=make, MAKELEVEL=1, PORT=port, DATA_DIR=data, EXECUTORS=1, **urls
    )
    await up.says("Onthedot runs.")
    assert not (data / "postgres").exists()
    assert not (data / "redis").exists()
    assert postgres.password_file.read_text() not in up.said
    (supervisor,) = children_of(up.process.pid)
    pids = [supervisor, *children_of(supervisor)]
    assert len(pids) == 3
    up.end(signal.SIGKILL)

    def all_are_gone() -> None:
        assert not any(is_alive(pid) for pid in pids)

    await eventually(all_are_gone)
    assert postgres.is_running
    assert valkey.is_running


async def test_the_receiver_tells_a_genuine_webhook_from_another_and_how_late_it_is(tmp_path: Path):
    port = ports.choose()
    secret_file = tmp_path / "signing-secret"
    receiver = Command("local_stack.receiver", tmp_path, DATA_DIR=tmp_path, RECEIVER_PORT=port)
    await receiver.says("Receiving on")

    def post(path: str, secret: str) -> None:
        now = datetime.now(UTC)
        body = b'{"n": 1}'
        headers = {
            "webhook-id": "run_1",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": f"v1,other {Webhook(secret).sign('run_1', now, body.decode())}",
            "onthedot-scheduled-for": (now - timedelta(seconds=3)).isoformat(),
            "onthedot-attempt": "2",
        }
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("PUT", path, body=body, headers=headers)
        assert connection.getresponse().status == 204
        connection.close()

    def line_of(path: str) -> str:
        (line,) = (line for line in receiver.said.splitlines() if f"PUT {path} " in line)
        return line

    post("/before", SECRET)
    assert f"signature: not checked (no secret at {secret_file})" in line_of("/before")
    secret_file.write_text(SECRET)
    post("/genuine", SECRET)
    assert "signature: holds" in line_of("/genuine")
    assert "webhook-id: run_1  late: 30" in line_of("/genuine")
    assert "attempt: 2" in line_of("/genuine")
    assert '{"n": 1}' in line_of("/genuine")
    other = SECRET.replace("M", "N")
    post("/forged", other)
    assert "signature: DOES NOT HOLD" in line_of("/forged")
    secret_file.write_text(other)
    post("/renewed", other)
    assert "signature: holds" in line_of("/renewed")
    assert receiver.end() == 0
