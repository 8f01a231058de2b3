"""A receiver as fast as Python makes one: `python -m benchmarks.sink PORT`.

Answers 204 to every POST and notes when it came. `GET /report` answers those notes as JSON lines
`[webhook-id, arrived at]` and forgets them.
"""

import asyncio
import sys
import time

import orjson
import uvloop

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Sink(asyncio.Protocol):
    """One connection. Reads requests as they come, pipelined or in pieces."""

    notes: list[tuple[str, float]] = []  # noqa: RUF012  # one list for all connections is the point

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            size = end + 4 + int(_header(head, b"content-length") or 0)
            if len(self.buffer) < size:
                return
            self.buffer = self.buffer[size:]
            if head.startswith(b"get /report"):
                self._report()
            else:
                webhook_id = _header(head, b"webhook-id").decode()
                self.notes.append((webhook_id, time.time()))
                self.transport.write(ANSWER)

    def _report(self) -> None:
        body = b"\n".join(orjson.dumps(note) for note in self.notes)
        self.notes.clear()
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


def _header(head: bytes, name: bytes) -> bytes:
    start = head.find(b"\r\n" + name + b": ")
    if start < 0:
        return b""
    start += len(name) + 4
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None]


async def main() -> None:
    """Listen for ever."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Sink, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
