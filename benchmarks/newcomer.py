"""How long a newcomer takes from a clone to the first webhook, by the README's own commands.

`python3 -m benchmarks.newcomer`, by any Python: it needs nothing that is not yet installed. It
clones this repository, so only what is committed; ports are free ones, the data stays in the clone,
and all of it goes when it ends. What it cannot make fresh are the system's caches and pip's; of the
latter, PIP_NO_CACHE_DIR=1 lets it do without.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

ROOT = Path(__file__).resolve().parent.parent
SECONDS_MAX = 180.0
LOOK_SECONDS = 0.1
STOP_SECONDS_MAX = 30.0
# What a newcomer's shell does not have, and what this one may: an installed us, a make around us.
NOT_INHERITED = re.compile(
    r"MAKE.*|MFLAGS|VIRTUAL_ENV|PYTHON.*|PORT|EXECUTORS|DATA_DIR|DATABASE_URL|REDIS_URL|.*_PORT"
)


class Shell:
    """One of the newcomer's terminals, a command running in it."""

    def __init__(self, directory: Path, environment: dict[str, str], *command: str) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        """All that it has printed."""
        return "\n".join(self.lines)

    def has_ended(self) -> bool:
        """Whether the command is over."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """Ctrl-C, which a terminal sends to all that it runs."""
        if not self.has_ended():
            os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(STOP_SECONDS_MAX)

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(line.rstrip("\n") for line in self._process.stdout)


class Walk:
    """The path, and how long each step of it took."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._last = self._began

    @property
    def seconds(self) -> float:
        """Up to the last step."""
        return self._last - self._began

    def reached(self, step: str) -> None:
        """Tell how long this step took."""
        now = monotonic()
        print(f"  {step:<36} {now - self._last:6.1f} s", flush=True)
        self._last = now

    def wait(self, shell: Shell, fact: Callable[[], bool]) -> None:
        """Wait for a fact, unless the shell ends or twice the time that it may take is over."""
        while not fact():
            if shell.has_ended() or monotonic() > self._began + 2 * SECONDS_MAX:
                raise SystemExit(f"The path ends here:\n{shell.text}")
            sleep(LOOK_SECONDS)


def main() -> int:
    """Walk the path; 0 if it was short enough."""
    inherited = os.environ.items()  # noqa: TID251  # a shell's
    environment = {name: text for name, text in inherited if not NOT_INHERITED.fullmatch(name)}
    port, receiver_port = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="onthedot-newcomer-") as directory:
        clone = Path(directory) / "onthedot"
        walk = Walk()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        walk.reached("git clone")
        shells = [Shell(clone, environment, "make", "up", f"PORT={port}")]
        try:
            [up] = shells
            walk.wait(up, (clone / ".venv/local.stamp").exists)
            walk.reached("make up: installed")
            walk.wait(up, lambda: "Onthedot runs." in up.text)
            walk.reached("make up: runs")
            receiver = Shell(
                clone, environment, "make", "receiver", f"RECEIVER_PORT={receiver_port}"
            )
            shells.append(receiver)
            walk.wait(receiver, lambda: "Receiving on" in receiver.text)
            walk.reached("make receiver")
            asked = curl_of(clone / "README.md", port, receiver_port)
            answer = subprocess.check_output(["sh", "-c", asked], text=True, env=environment)
            if '"time_left"' not in answer:
                raise SystemExit(f"The path ends here: {asked}\n{answer}")
            walk.reached("curl")
            walk.wait(receiver, lambda: "timer.fired" in receiver.text)
            walk.reached("the webhook, asked for in 5 s")
        finally:
            for shell in reversed(shells):
                shell.stop()
        print(f"  {'from the clone to the webhook':<36} {walk.seconds:6.1f} s")
        print(receiver.lines[-1])
    holds = "signature: holds" in receiver.text and walk.seconds < SECONDS_MAX
    print(f"under {SECONDS_MAX:.0f} s, signature verified: {'holds' if holds else 'FALLS SHORT'}")
    return 0 if holds else 1


def curl_of(readme: Path, port: int, receiver_port: int) -> str:
    """The first command that the README tells to try, for these ports."""
    found = re.search(r"^curl (?:.*\\\n)*.*$", readme.read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("The README tells no curl to try.")
    return found[0].replace(":8080", f":{port}").replace(":9000", f":{receiver_port}")


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


if __name__ == "__main__":
    sys.exit(main())
