"""Server-sent events, line by line (WHATWG HTML, 9.2.6)."""

import json

from onthedot.models import Event


class EventReader:
    """Makes events of lines; remembers where to go on from, and how soon to come back."""

    def __init__(self, last_event_id: str | None = None) -> None:
        self.last_event_id = last_event_id
        self.retry_seconds = 1.0
        self._id = last_event_id
        self._type = ""
        self._data: list[str] = []

    def read(self, line: str) -> Event | None:
        """Take the next line; answer the event that it completes, if it does."""
        if not line:
            return self._complete()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id":
                self._id = value
            case "event":
                self._type = value
            case "data":
                self._data.append(value)
            case "retry" if value.isascii() and value.isdigit():
                self.retry_seconds = int(value) / 1_000
        return None

    def break_off(self) -> None:
        """Forget what was not complete when the connection broke."""
        self._id, self._type, self._data = self.last_event_id, "", []

    def _complete(self) -> Event | None:
        # Not before it is whole: who broke off within an event is to be told it again.
        self.last_event_id = self._id
        kind, data = self._type, "\n".join(self._data)
        self.break_off()
        if not data:
            return None
        return Event.model_validate({"type": kind, **json.loads(data), "id": self.last_event_id})
