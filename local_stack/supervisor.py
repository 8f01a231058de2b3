"""The life of one `make up`: start all, look after all, stop all.

One thread looks around ten times a second: there is a handful of processes, and nothing that we
wait for is in a hurry.
"""

import signal
import time
from collections.abc import Sequence
from types import FrameType

import psycopg

from local_stack import signing_secret
from local_stack.child import FORCE_SECONDS_MAX, STOP_SECONDS_MAX, Child
from local_stack.stack import Stack
from local_stack.summary import summary
from local_stack.terminal import Terminal
from local_stack.watch import Watched

TICK_SECONDS = 0.1
START_TICK_SECONDS = 0.03


class StopRequestedError(Exception):
    """Somebody wants us to stop while we are still starting."""


class Supervisor:
    """Runs a stack until somebody asks it to stop; leaves no process behind."""

    def __init__(self, stack: Stack, terminal: Terminal) -> None:
        self._stack = stack
        self._terminal = terminal
        self._watched: list[Watched] = []
        self._is_stopping = False
        self._is_hurried = False

    def run(self) -> None:
        """Return once all is stopped, because that was asked for. Raises a StackError if not."""
        self._listen_for_signals()
        try:
            self._start()
            self._watch()
        except StopRequestedError:
            pass
        finally:
            self._stop()

    def _listen_for_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` would have it
            signal.signal(signal.SIGHUP, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        # Only a second Ctrl-C is impatience: `make` and `timeout` send SIGTERM more than once.
        if self._is_stopping and number == signal.SIGINT:
            self._is_hurried = True
        self._is_stopping = True

    def _start(self) -> None:
        self._stack.directory.claim(say=self._terminal.say, pause=self._pause)
        self._stack.start(self._begin)
        self._keep_signing_secret()
        self._terminal.show(summary(self._stack))

    def _begin(self, child: Child) -> None:
        self._terminal.say(f"Starting {child.name} ...")
        child.start(pause=self._pause)
        if child.is_running:
            number = len(self._watched)
            self._watched.append(Watched(child, number=number, now=time.monotonic()))

    def _pause(self) -> None:
        if self._is_stopping or self._terminal.is_gone:
            raise StopRequestedError
        time.sleep(START_TICK_SECONDS)

    def _keep_signing_secret(self) -> None:
        try:
            secret = signing_secret.fetch(self._stack.database_url)
        except psycopg.Error as error:
            self._terminal.complain(f"The signing secret could not be read: {error}")
            return
        if secret is not None:
            signing_secret.keep(self._stack.directory.path, secret)

    def _watch(self) -> None:
        while not (self._is_stopping or self._terminal.is_gone):
            self._follow_logs()
            for watched in self._watched:
                watched.revive(self._terminal, time.monotonic())
            time.sleep(TICK_SECONDS)

    def _stop(self) -> None:
        self._is_stopping = True
        if self._watched:
            self._terminal.say("Finishing what is on its way. Ctrl-C again hurries.")
        for group in self._stack.in_stop_order:
            if running := [child for child in group if child.is_running]:
                names = ", ".join(child.name for child in running)
                self._terminal.say(f"Stopping {names} ...")
                self._stop_together(running)
        if self._watched:
            self._terminal.say(f"Stopped. The data stays in {self._stack.settings.data_dir}.")

    def _stop_together(self, children: Sequence[Child]) -> None:
        begun = time.monotonic()
        for child in children:
            child.send(child.stop_signal)
        while any(child.is_running for child in children):
            patience = FORCE_SECONDS_MAX if self._is_hurried else STOP_SECONDS_MAX
            if time.monotonic() - begun > patience:
                break
            time.sleep(TICK_SECONDS)
            self._follow_logs()
        for child in children:
            if child.is_running:
                self._terminal.complain(f"{child.name} takes too long, and is stopped by force.")
                child.force()

    def _follow_logs(self) -> None:
        for watched in self._watched:
            watched.follow_log(self._terminal)
