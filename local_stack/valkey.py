"""Runs a Valkey (or Redis) of our own: loopback only, behind a password."""

import tempfile
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from local_stack import private_files
from local_stack.binaries import Binaries, valkey_binary, version
from local_stack.child import Child
from local_stack.locks import bequeathed
from local_stack.ports import LOOPBACK, choose
from local_stack.program import SERVER_ENVIRONMENT, Program

ANSWER_SECONDS_MAX = 1.0

# All that is lost with Redis is time, so the last second of its writes may go.
DURABLE = ("appendonly yes", "appendfsync everysec", 'save ""')
FORGETFUL = ("appendonly no", 'save ""')


class Valkey(Child):
    """One server on one data directory: its own files, and `password`, `log`, `lock`."""

    def __init__(
        self,
        data_directory: Path,
        *,
        port: int | None = None,
        durable: bool = True,
        binary: Path | None = None,
        log: Path | None = None,
    ) -> None:
        self.data_directory = data_directory.resolve()
        super().__init__("redis", log or self.data_directory / "log")
        self.port = port or choose()
        self.durable = durable
        self.binary = valkey_binary(binary or Binaries().valkey_bin)
        self.password_file = self.data_directory / "password"

    @property
    def url(self) -> str:
        """Where clients connect, password included; to be had after the first start."""
        return f"redis://:{self.password_file.read_text()}@{LOOPBACK}:{self.port}/0"

    @property
    def version(self) -> str:
        """Such as `Valkey 9.1.2`."""
        return f"{'Redis' if 'redis' in self.binary.name else 'Valkey'} {version(self.binary)}"

    def launch(self) -> bool:
        """Start the server. Its settings hold the password, so they go by its standard input."""
        private_files.make_directory(self.data_directory)
        with bequeathed(self.data_directory / "lock") as lock:
            if lock is None:
                return False
            if not self.password_file.exists():
                private_files.make_password(self.password_file)
            with tempfile.TemporaryFile() as settings:
                settings.write(self._settings().encode())
                settings.seek(0)
                self._spawn(
                    Program(
                        command=(self.binary, "-"),
                        log=self.log,
                        directory=self.data_directory,
                        environment=SERVER_ENVIRONMENT,
                        lock=lock,
                        last_signal=self.stop_signal,
                        stdin=settings,
                    )
                )
        return True

    def answers(self) -> bool:
        """Whether it has read its data and obeys the password."""
        client = redis.Redis.from_url(
            self.url, socket_timeout=ANSWER_SECONDS_MAX, retry=Retry(NoBackoff(), 0)
        )
        with client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):
                return False

    def _settings(self) -> str:
        # Files lie in the working directory, which therefore needs no quoting here.
        lines = (
            f"bind {LOOPBACK}",
            f"port {self.port}",
            f"requirepass {self.password_file.read_text()}",
            "daemonize no",
            'logfile ""',
            "maxmemory-policy noeviction",
            *(DURABLE if self.durable else FORGETFUL),
        )
        return "\n".join(lines) + "\n"
