"""What a receiver got, and waiting for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import httpx

POLL_SECONDS = 0.1

Seen = TypeVar("Seen")


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A request that a receiver got."""

    at: float  # Unix seconds, by the clock that all containers share
    path: str
    headers: dict[str, str]
    body: str

    @property
    def lateness_seconds(self) -> float:
        """How long after its instant it came; less than 0 if it was early."""
        return self.at - datetime.fromisoformat(self.headers["onthedot-scheduled-for"]).timestamp()


@dataclass(frozen=True)
class Inbox:
    """What a receiver got since it was started."""

    address: str
    _seen: list[Webhook] = field(default_factory=list)

    def all(self) -> list[Webhook]:
        """Every webhook, in the order of arrival."""
        answer = httpx.get(f"{self.address}/{len(self._seen)}", timeout=10, trust_env=False)
        self._seen.extend(Webhook(**webhook) for webhook in answer.json())
        return list(self._seen)


def eventually(look: Callable[[], Seen], *, within_seconds: float) -> Seen:
    """Look again until the assertion in `look` holds, and answer what it saw."""
    deadline = time.monotonic() + within_seconds
    while True:
        try:
            return look()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)
