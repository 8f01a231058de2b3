"""Handlers and executors as the real processes they are."""

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Self

import httpx

from tests import nursery
from tests.eventually import eventually

_nursery = nursery.Nursery()
ROOT = Path(__file__).parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """One process of a service, its log kept."""

    def __init__(
        self,
        module: str,
        port: int,
        log: Path,
        environment: dict[str, str],
        *,
        source: Path = ROOT,
    ) -> None:
        self.source = source
        self.module = module
        self.port = port
        self.log = log
        self.environment = environment
        self.process: asyncio.subprocess.Process | nursery.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def start(self, *, until_ready: bool = True) -> Self:
        environment = {**os.environ, **self.environment}  # noqa: TID251  # a child's environment
        if self.source == ROOT and nursery.may_fork(self.module, environment):
            start = _nursery.start
            self.process = await asyncio.to_thread(start, self.module, environment, self.log)
        else:
            await self._start(environment)
        if until_ready:
            await self.ready()
        return self

    async def _start(self, environment: dict[str, str]) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-W", "default", "-m", self.module),
                env=environment,
                cwd=self.source,
                stdout=log,
                stderr=log,
            )

    async def ready(self) -> None:
        async with httpx.AsyncClient(base_url=self.url) as http:

            async def answers() -> None:
                assert self.process is not None
                if self.process.returncode is not None:
                    raise RuntimeError(f"{self.module} ended: {self.log.read_text()}")
                try:
                    response = await http.get("/readyz")
                except httpx.HTTPError as error:
                    raise AssertionError(str(error)) from None
                assert response.status_code == 200, response.text

            await eventually(answers)

    def events(self) -> list[dict[str, Any]]:
        """What it has logged so far, as long as that is JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.send(signal.SIGKILL)
        assert self.process is not None
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and wait; answer the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.send(signal.SIGTERM)
            try:
                async with asyncio.timeout(30):
                    await self.process.wait()
            except TimeoutError:
                await self.kill()
                raise AssertionError(
                    f"{self.module} did not stop: {self.log.read_text()}"
                ) from None
        assert self.process.returncode is not None
        return self.process.returncode


class Services:
    """Everything one test runs, sharing a database and a Redis; `source` holds the code it runs."""

    def __init__(
        self, database_url: str, redis_url: str, directory: Path, *, source: Path = ROOT
    ) -> None:
        self.environment = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8",
            "LOG_FORMAT": "json",
            "DRAIN_SECONDS": "0",  # nothing stands before them, unless a test says so
        }
        self._source = source
        self._directory = directory
        self.started: list[Service] = []

    async def handler(self, *, until_ready: bool = True, **settings: str) -> Service:
        service = self._add("handler_service", "PORT", settings)
        return await service.start(until_ready=until_ready)

    async def executor(self, *, until_ready: bool = True, **settings: str) -> Service:
        service = self._add("executor_service", "HEALTH_PORT", settings)
        return await service.start(until_ready=until_ready)

    async def executors(self, count: int, **settings: str) -> list[Service]:
        return list(await asyncio.gather(*(self.executor(**settings) for _ in range(count))))

    async def stop(self) -> None:
        """Stop what still runs; every process must end well and have logged no traceback."""
        codes = await asyncio.gather(*(service.stop() for service in self.started))
        for service, code in zip(self.started, codes, strict=True):
            log = service.log.read_text()
            assert code in {0, -signal.SIGKILL}, f"{service.module} ended with {code}: {log}"
            for word in ("Traceback", "was never awaited", "was destroyed but it is pending"):
                assert word not in log, f"{service.module}: {log}"

    def _add(self, module: str, port_setting: str, settings: dict[str, str]) -> Service:
        port = free_port()
        log = self._directory / f"{module}-{len(self.started)}.log"
        environment = {**self.environment, port_setting: str(port), **settings}
        service = Service(module, port, log, environment, source=self._source)
        self.started.append(service)
        return service
