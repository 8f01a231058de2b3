"""Brings back what ended without being asked to."""

from local_stack.child import Child
from local_stack.logs import Follower
from local_stack.problems import StackError
from local_stack.terminal import Terminal

FIRST_DELAY_SECONDS = 0.5
DOUBLINGS_MAX = 6
DELAY_SECONDS_MAX = 30.0
STEADY_SECONDS = 60.0
QUOTED_LINES = 5


def delay_seconds(failures: int) -> float:
    """How long to wait before starting again what failed so often in a row: 0.5, 1, 2, 4 ... 30."""
    doublings = min(failures - 1, DOUBLINGS_MAX)
    return min(DELAY_SECONDS_MAX, FIRST_DELAY_SECONDS * 2.0**doublings)


class Watched:
    """A child, its log, and when to start it again."""

    def __init__(self, child: Child, *, number: int, now: float) -> None:
        self.child = child
        self._follower = Follower(child.name, child.log, number=number)
        self._failures = 0
        self._launched_at = now
        self._again_at: float | None = None

    def follow_log(self, terminal: Terminal) -> None:
        """Show what it wrote since the last look."""
        self._follower.follow(terminal)

    def revive(self, terminal: Terminal, now: float) -> None:
        """If it has ended, say so once; start it again when its delay is over."""
        if self.child.is_running:
            return
        if self._again_at is None:
            self._note_end(terminal, now)
        elif now >= self._again_at:
            self._launch(terminal, now)

    def _note_end(self, terminal: Terminal, now: float) -> None:
        if now - self._launched_at > STEADY_SECONDS:
            self._failures = 0
        self._failures += 1
        delay = delay_seconds(self._failures)
        self._again_at = now + delay
        terminal.complain(
            f"{self.child.name} {self.child.end}. It starts again in {delay:g} s. Its last lines:"
        )
        for line in self.child.last_lines()[-QUOTED_LINES:] or ["none"]:
            terminal.show(f"    {line}")

    def _launch(self, terminal: Terminal, now: float) -> None:
        try:
            is_launched = self.child.launch()
        except (StackError, OSError) as problem:
            self._failures += 1
            self._again_at = now + delay_seconds(self._failures)
            terminal.complain(f"{self.child.name} can't be started: {problem}")
            return
        if is_launched and self.child.process is not None:
            self._launched_at, self._again_at = now, None
            terminal.say(f"{self.child.name} is started again (process {self.child.process.pid}).")
