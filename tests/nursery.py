"""Starts services as forks of a process that has imported them: in 0.1 s of processor time, not 2.

They are processes like any other, with a pid, signals and an exit code of their own, and children
of the test process, though it did not fork them: it adopts what its descendants leave behind.
"""

import asyncio
import ctypes
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from importlib import import_module
from pathlib import Path

MESSAGE_BYTES_MAX = 131_072
ADOPT = 36  # PR_SET_CHILD_SUBREAPER, prctl(2)
# What can be run, and what it spends its start on.
IMPORTED = {
    "handler_service": "handler_service.app",
    "executor_service": "executor_service.executor",
}
# What is in these tests' way to a process of its own: they come before its first instruction.
BEFORE_PYTHON = ("LD_PRELOAD", "PYTHONPATH")


class Process:
    """One that was adopted; as much of `asyncio.subprocess.Process` as tests ask for."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it lives."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait for its end."""
        loop = asyncio.get_running_loop()
        while (code := self.returncode) is None:
            ended = loop.create_future()
            handle = os.pidfd_open(self.pid)
            loop.add_reader(handle, ended.set_result, None)
            try:
                await ended
            finally:
                loop.remove_reader(handle)
                os.close(handle)
        return code


class Nursery:
    """The process that forks, started when it is first asked; it ends with the test process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def start(self, module: str, environment: dict[str, str], log: Path) -> Process:
        """Run `python -m module` in this environment; what it prints goes to the end of `log`."""
        with self._lock:
            line = self._line or self._open()
            line.send(json.dumps([module, environment, str(log)]).encode())
            return Process(int(line.recv(64)))

    def _open(self) -> socket.socket:
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if ctypes.CDLL(None, use_errno=True).prctl(ADOPT, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "cannot adopt processes")
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-W", "default", "-m", "tests.nursery", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=Path(__file__).parent.parent,
            )
        return self._line


def may_fork(module: str, environment: dict[str, str]) -> bool:
    """Whether this module can be run so, in this environment."""
    return (
        sys.platform == "linux"
        and module in IMPORTED
        and not environment.keys() & set(BEFORE_PYTHON)
    )


def _serve(line: socket.socket) -> str:
    """Fork for each message; answers in each child, with the module that it is to run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while message := line.recv(MESSAGE_BYTES_MAX):
        read, write = os.pipe()
        if between := os.fork():
            os.waitpid(between, 0)  # from here on, its child is the test process's
            line.send(os.read(read, 64))
            os.close(read)
            os.close(write)
        elif child := os.fork():
            os.write(write, str(child).encode())
            os._exit(0)
        else:
            os.close(read)
            os.close(write)
            line.close()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            return _become(*json.loads(message))
    raise SystemExit


def _become(module: str, environment: dict[str, str], log: str) -> str:
    os.environ.clear()  # noqa: TID251  # a child's environment
    os.environ.update(environment)  # noqa: TID251
    with Path(log).open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = [module]
    return module


if __name__ == "__main__":
    for name in IMPORTED.values():
        import_module(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork would lose these threads"
    gc.freeze()
    wanted = _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(wanted, run_name="__main__", alter_sys=True)
