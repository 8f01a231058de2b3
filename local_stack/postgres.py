"""Runs a Postgres of our own: loopback only, behind a password, its data kept across starts."""

import os
import re
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from local_stack import private_files
from local_stack.binaries import Binaries, postgres_bindir, version
from local_stack.child import Child
from local_stack.locks import bequeathed
from local_stack.ports import LOOPBACK, choose
from local_stack.problems import ChildEndedError, OtherMajorVersionError, PasswordLostError
from local_stack.program import SERVER_ENVIRONMENT, Program

INITDB_SECONDS_MAX = 60.0

# Durable like any other, and of a laptop's size. No unix socket: its path has a length limit, and
# a server that is killed leaves it lying about.
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "128MB",
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


class Postgres(Child):
    """One server on one data directory, which holds `cluster/`, `password`, `log` and `lock`."""

    stop_signal = signal.SIGINT  # "fast": ends sessions, keeps everything
    hurry_signal = signal.SIGQUIT  # "immediate": recovers from its log at the next start

    def __init__(
        self,
        data_directory: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] | None = None,
        bindir: Path | None = None,
        log: Path | None = None,
    ) -> None:
        self.data_directory = data_directory.resolve()
        super().__init__("postgres", log or self.data_directory / "log")
        self.port = port or choose()
        self.settings = {**SETTINGS, **(settings or {}), "port": str(self.port)}
        self.bindir = postgres_bindir(bindir or Binaries().pg_bindir)
        self.password_file = self.data_directory / "password"
        self.cluster = self.data_directory / "cluster"

    @property
    def url(self) -> str:
        """Where clients connect, password included; to be had after the first start."""
        return f"postgresql://postgres:{self.password_file.read_text()}@{LOOPBACK}:{self.port}/postgres"

    @property
    def version(self) -> str:
        """Such as `18.6`."""
        return version(self.bindir / "postgres")

    def launch(self) -> bool:
        """Start the server, on a new cluster the first time."""
        private_files.make_directory(self.data_directory)
        with bequeathed(self.data_directory / "lock") as lock:
            if lock is None:
                return False
            if self.cluster.exists():
                self._check_cluster()
            else:
                self._make_cluster(lock)
            self._forget_recycled_pid()
            settings = [word for pair in self.settings.items() for word in ("-c", "=".join(pair))]
            self._spawn(self._program(lock, "postgres", "-D", str(self.cluster), *settings))
        return True

    def answers(self) -> bool:
        """Whether it accepts connections: the eighth line of its pid file says so."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        is_ours = self.process is not None and lines[:1] == [str(self.process.pid)]
        return is_ours and len(lines) > 7 and lines[7].strip() == "ready"

    def _make_cluster(self, lock: int) -> None:
        """Run initdb beside the place where its result belongs, as it may be killed half-way."""
        unfinished = self.cluster.with_name("cluster.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        private_files.make_password(self.password_file)
        options = ("-U", "postgres", "-A", "scram-sha-256", f"--pwfile={self.password_file}")
        form = ("-E", "UTF8", "--locale=C", "--no-instructions")
        self._spawn(self._program(lock, "initdb", "-D", str(unfinished), *options, *form))
        if not self._leaves_within(INITDB_SECONDS_MAX):
            self.kill()
        if self.process is None or self.process.returncode != 0:
            raise ChildEndedError("initdb", self.end, self.last_lines(), self.log)
        unfinished.rename(self.cluster)

    def _check_cluster(self) -> None:
        """Refuse, in words, what Postgres would refuse in its own."""
        if not self.password_file.exists():
            raise PasswordLostError(self.password_file)
        written_by = (self.cluster / "PG_VERSION").read_text().strip()
        have = self.version
        if written_by != re.split(r"\D", have)[0]:  # 18 of 18.6, and of 18beta1
            raise OtherMajorVersionError(
                self.data_directory, written_by=written_by, have=have, bindir=self.bindir
            )

    def _forget_recycled_pid(self) -> None:
        """Remove the pid file of a killed server if its number now belongs to a stranger.

        Postgres sees to every other leftover itself, but before a living process of that number it
        refuses to start. No server that we started is alive, as we hold the lock; one that a person
        started by hand works in its cluster, and is left alone.
        """
        pid_file = self.cluster / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().partition("\n")[0])
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            return
        except (ValueError, PermissionError):
            pid_file.unlink()
            return
        if not _works_in(pid, self.cluster):
            pid_file.unlink()

    def _program(self, lock: int, name: str, *arguments: str) -> Program:
        return Program(
            command=(self.bindir / name, *arguments),
            log=self.log,
            directory=self.data_directory,
            environment=SERVER_ENVIRONMENT,
            lock=lock,
            last_signal=self.stop_signal,
            may_be_root=False,
        )


def _works_in(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").samefile(directory)
    except OSError:
        return False
