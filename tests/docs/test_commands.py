"""Every command in the documentation does what the page says, when it is run as it stands there."""

import ast
import asyncio
import json
import re
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import promql_parser
import psycopg
import pytest
import pytest_asyncio
import redis
import yaml

from local_stack.binaries import Binaries, postgres_bindir
from tests.conftest import url_of
from tests.docs.blocks import BESIDE, LANGUAGES, PAGES, ROOT, Block, blocks_of, name_of
from tests.docs.elsewhere import NOT_HERE, chart_values, faults, runs_elsewhere, unknown_keys
from tests.docs.shape import mask, names_in, unlike
from tests.docs.shell import Ran, Shell, needs_programs
from tests.eventually import eventually
from tests.processes import Services, free_port
from tests.receiver import Receiver
from tests.servers import Servers

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
# It has a test of its own, with a stack of its own.
TUTORIAL = ROOT / "docs/tutorial.md"
# A command that may not be given twice.
CHANGES = re.compile(r" -X| -d| --data|\|")


class Stack(NamedTuple):
    """What all pages talk to."""

    database_url: str
    redis_url: str
    handler_port: int
    executor_port: int
    receiver: Receiver


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(
    running_servers: Servers,
    template: str,
    database_prefix: str,
    worker_id: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Stack]:
    number = 0 if worker_id == "master" else int(worker_id.removeprefix("gw"))
    redis_url = f"{running_servers.redis_url.rsplit('/', 1)[0]}/{number}"
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    name = f"{database_prefix}_docs"
    async with AsyncExitStack() as ending:
        with psycopg.connect(running_servers.database_url, autocommit=True) as connection:
            connection.execute(f"drop database if exists {name} with (force)")
            connection.execute(f"create database {name} template {template} strategy file_copy")
        database_url = url_of(running_servers.database_url, name)
        services = Services(database_url, redis_url, tmp_path_factory.mktemp("services"))
        ending.push_async_callback(services.stop)
        handler, executor = await asyncio.gather(services.handler(), services.executor())
        receiver = await ending.enter_async_context(Receiver())
        yield Stack(database_url, redis_url, handler.port, executor.port, receiver)


class Page:
    """A page as a reader goes through it."""

    def __init__(self, shell: Shell, stack: Stack) -> None:
        self.shell = shell
        self.stack = stack
        self.instead = {
            "localhost:8080": f"127.0.0.1:{stack.handler_port}",
            "localhost:8081": f"127.0.0.1:{stack.executor_port}",
            "127.0.0.1:9000": f"127.0.0.1:{stack.receiver.port}",
            "127.0.0.1:9001": f"127.0.0.1:{free_port()}",
            "127.0.0.1:9002": f"127.0.0.1:{(own := free_port())}",
            '("127.0.0.1", 9002)': f'("127.0.0.1", {own})',
        }
        self.ran: tuple[str, Ran] | None = None
        self.beside: Path | None = None

    async def follow(self, block: Block) -> None:
        match block.language:
            case "sh" if runs_elsewhere(block):
                self._leave()
            case "sh":
                self._leave()
                await self._run(block)
            case "text" if block.title == BESIDE:
                await eventually(lambda: self._look_beside(block))
            case "json" | "text" if self.ran:
                await self._compare_until_it_is_so(block)
            case "python" if block.title.endswith(".py"):
                (self.shell.directory / block.title).write_text(self._as_here(block.text))
            case "python" if not block.title.startswith("Before"):
                (self.shell.directory / "block.py").write_text(self._as_here(block.text))
                await self.shell.run("python block.py")
            case "sql":
                self._query(block.text)

    def _leave(self) -> None:
        """Go on from a command whose answer the page does not show: it must not be a refusal."""
        if self.ran is not None:
            self._compare(None, self.ran[1])
        self.ran = None

    async def _run(self, block: Block) -> None:
        text = self._as_here(block.text)
        if block.title == BESIDE:
            self.beside = await self.shell.run_beside(text)
        else:
            self.ran = (text, await self.shell.run(text))

    def _look_beside(self, shown: Block) -> None:
        assert self.beside is not None
        self._compare(shown, Ran(self.beside.read_text(errors="replace"), []))

    async def _compare_until_it_is_so(self, shown: Block) -> None:
        """Compare, looking again where that changes nothing: what is shown may be about to be."""
        assert self.ran is not None
        command = self.ran[0]
        may_repeat = not CHANGES.search(command)

        async def it_is_so() -> None:
            assert self.ran is not None
            try:
                self._compare(shown, self.ran[1])
            except AssertionError:
                if may_repeat:
                    self.ran = (command, await self.shell.run(command))
                raise

        await eventually(it_is_so, within=20 if may_repeat else 0, every=0.1)
        if shown.language == "json":
            self.instead.update(names_in(json.loads(shown.text), json.loads(self.ran[1].output)))
        self.ran = None

    def end(self) -> None:
        """Leave the page."""
        self._leave()

    def _compare(self, shown: Block | None, ran: Ran) -> None:
        refused = [status for status in ran.statuses if status >= 400 or status == 0]
        if shown and shown.language == "json":
            expected = json.loads(shown.text)
            differences = list(unlike(expected, json.loads(ran.output or "null")))
            assert not differences, f"{shown}\n{differences}\n{ran.output}"
            if isinstance(expected, dict) and "urn:onthedot:problem" in str(expected.get("type")):
                refused = [status for status in refused if status != expected["status"]]
        elif shown:
            said = mask(ran.output)
            for line in shown.text.splitlines():
                for piece in line.split("…"):
                    assert mask(self._as_here(piece)) in said, f"{line!r} is not in {ran.output!r}"
            refused = [status for status in refused if f" {status}" not in shown.text]
        assert not refused, f"refused: {ran.output}"

    def _as_here(self, text: str) -> str:
        """Put the ports and ids of this machine where the page has its own."""
        # The longest first: an id may stand in a path that is a name too.
        names = sorted(self.instead, key=len, reverse=True)
        said = "|".join(rf"(?<![\w.]){re.escape(name)}" for name in names).replace(
            r"(?<![\w.])/", "/"
        )
        return re.sub(rf"({said})(?!\w)", lambda found: self.instead[found[0]], text)

    def _query(self, text: str) -> None:
        with psycopg.connect(self.stack.database_url) as connection:
            connection.execute(self._as_here(text))
            connection.rollback()


@needs_programs
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL], ids=name_of)
async def test_the_commands_of_a_page_do_what_it_says(
    page: Path, stack: Stack, tmp_path: Path, reader: dict[str, str]
) -> None:
    blocks = list(blocks_of(page))
    if not {"sh", "python", "sql"} & {block.language for block in blocks}:
        return
    for name in ("examples", "docs", "Makefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**reader, "DATABASE_URL": stack.database_url, "REDIS_URL": stack.redis_url}
    async with Shell(tmp_path, environment) as shell:
        followed = Page(shell, stack)
        for block in blocks:
            try:
                await followed.follow(block)
            except Exception as error:
                raise AssertionError(f"{block}\n{error}") from error
        followed.end()


def test_every_block_has_a_language_that_says_what_is_done_with_it() -> None:
    assert len(BLOCKS) > 50
    for block in BLOCKS:
        assert block.language in LANGUAGES, block


@pytest.mark.parametrize("command", NOT_HERE)
def test_what_runs_elsewhere_has_no_fault_that_can_be_seen_here(command: str) -> None:
    for block in BLOCKS:
        if runs_elsewhere(block) and block.command == command:
            assert not list(faults(block)), block


def test_what_is_run_here_hides_nothing_that_is_not() -> None:
    for block in BLOCKS:
        if block.language == "sh" and not runs_elsewhere(block):
            firsts = {line.split()[0] for line in block.text.splitlines() if line.strip()}
            assert not firsts & NOT_HERE.keys(), block


def test_what_is_only_shown_can_be_read_by_what_it_is_for() -> None:
    for block in BLOCKS:
        match block.language:
            case "json":
                json.loads(block.text)
            case "toml":
                tomllib.loads(block.text)
            case "python":
                ast.parse(block.text)
            case "promql":
                for line in block.text.strip().split("\n\n"):
                    promql_parser.parse(line)
            case "yaml":
                values = yaml.safe_load(block.text)
                if block.title == "values.yaml":
                    assert not list(unknown_keys(values, chart_values())), block


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What somebody who reads has: Python with the client installed, and Postgres's programs."""
    installed = tmp_path_factory.mktemp("installed")
    (installed / "onthedot").write_text('#!/bin/sh\nexec python -m onthedot "$@"\n')
    (installed / "onthedot").chmod(0o755)
    programs = [installed, Path(sys.executable).parent, postgres_bindir(Binaries().pg_bindir)]
    path = ":".join([*map(str, programs), "/usr/local/bin", "/usr/bin", "/bin"])
    return {
        "PATH": path,
        "PYTHONPATH": str(ROOT / "client"),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "NO_PROXY": "*",
    }
