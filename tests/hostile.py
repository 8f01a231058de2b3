"""A receiver that breaks HTTP and TCP themselves, where tests/receiver.py keeps to them.

The first word of the path says how. What is said here goes to the socket as it stands, and a
connection stays open afterwards, so that it is the caller who has to end it.
"""

import asyncio
import random
import socket
import struct
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from tests.receiver import Receiver

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
BLOCK = 65_536

# Whole answers that are no HTTP.
NO_ANSWERS = {
    "garbage": b"\x00\x01\x02\x03 nothing of HTTP \xff\xfe\r\n\r\n",
    "bare-text": b"It works!\r\n\r\n",
    "unknown-version": b"HTTP/9.9 200 OK\r\n\r\n",
    "preface-of-http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "status-of-letters": b"HTTP/1.1 OK 200\r\n\r\n",
    "status-of-two-digits": b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n",
    "status-of-four-digits": b"HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
    "status-of-zeros": b"HTTP/1.1 000 OK\r\ncontent-length: 0\r\n\r\n",
    "two-lengths": OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "negative-length": OK + b"content-length: -1\r\n\r\n",
    "length-of-letters": OK + b"content-length: five\r\n\r\nhello",
    "length-beyond-counting": OK + b"content-length: " + b"9" * 40 + b"\r\n\r\nhello",
    "nul-in-a-header": OK + b"x-nul: a\x00b\r\ncontent-length: 0\r\n\r\n",
    "no-colon": OK + b"content-length 0\r\n\r\n",
    "header-without-a-name": OK + b": nobody\r\ncontent-length: 0\r\n\r\n",
}
# Answers that say 200 and whose body then breaks.
BROKEN_BODIES = {
    "negative-chunk": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "chunk-of-letters": CHUNKED + b"xyz\r\nhello\r\n0\r\n\r\n",
    "chunk-beyond-counting": CHUNKED + b"f" * 40 + b"\r\nhello",
    "no-gzip": OK + b"content-encoding: gzip\r\ncontent-length: 5\r\n\r\nhello",
}
# Answers with a field whose bytes are no text.
NO_TEXT = {
    "retry-after-of-bytes": b"HTTP/1.1 503 Busy\r\nretry-after: \xff\xfe\r\n"
    b"content-length: 9\r\n\r\nnot today",
}
AS_IT_STANDS = NO_ANSWERS | BROKEN_BODIES | NO_TEXT


class HostileReceiver(Receiver):
    """Remembers every request as a Receiver does, and how much it got rid of.

    Besides `NO_ANSWERS`, `BROKEN_BODIES` and `NO_TEXT`:

    drip-head, drip-body     a byte a second       continues, hints   5,000 of 1xx, then 204
    ten-gigabytes            by content-length     endless-continues  1xx and never more
    endless-chunks[/503]     by chunks             long-header        a line of 10 MB
    bomb                     gzip of 100 MB        many-headers       100,000 lines
    reset, reset-after-head  by RST                endless-head       lines without end
    close[/0.5]              204, and closed so many seconds later, unannounced
    close-on-next            204, and closed as soon as the next request begins to arrive
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent: Counter[str] = Counter()  # bytes that the network took, by the path's word
        self.cut_off = 0  # requests that a closing connection met

    @property
    def written(self) -> Counter[tuple[str, str]]:
        """How often each attempt was read here, by webhook-id and number."""
        return Counter((call.webhook_id, call.headers["onthedot-attempt"]) for call in self.calls)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        goes_on = await super()._serve_one(reader, writer)
        if goes_on and self.calls[-1].path.startswith("/close-on-next"):
            self.cut_off += len(await reader.read(1))
            return False
        return goes_on

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> bool:
        word, _, detail = path.strip("/").partition("/")
        if word in AS_IT_STANDS:
            await self._send(word, writer, AS_IT_STANDS[word])
            return True
        way = getattr(self, "_" + word.replace("-", "_"), None)
        if way is None:
            return await super()._answer(path, writer)
        return await way(writer, word, detail) is not False

    async def _send(
        self,
        word: str,
        writer: asyncio.StreamWriter,
        data: bytes,
        *,
        times: int = 1,
        every: float = 0.0,
    ) -> None:
        for _ in range(times):
            writer.write(data)
            await writer.drain()
            self.sent[word] += len(data)
            await asyncio.sleep(every)

    async def _drip_head(self, writer: asyncio.StreamWriter, word: str, _: str) -> None:
        for byte in OK + b"content-length: 0\r\n\r\n":
            await self._send(word, writer, bytes([byte]), every=1.0)

    async def _drip_body(self, writer: asyncio.StreamWriter, word: str, _: str) -> None:
        await self._send(word, writer, OK + b"content-length: 1000\r\n\r\n")
        await self._send(word, writer, b"x", times=1_000, every=1.0)

    async def _ten_gigabytes(self, writer: asyncio.StreamWriter, word: str, _: str) -> None:
        length = 10 * 2**30
        await self._send(word, writer, OK + b"content-length: %d\r\n\r\n" % length)
        await self._send(word, writer, b"x" * BLOCK, times=length // BLOCK)

    async def _endless_chunks(self, writer: asyncio.StreamWriter, word: str, detail: str) -> None:
        head = CHUNKED.replace(b"200", detail.encode()) if detail else CHUNKED
        await self._send(word, writer, head)
        await self._send(word, writer, b"10000\r\n" + b"x" * BLOCK + b"\r\n", times=10**9)

    async def _bomb(self, writer: asyncio.StreamWriter, word: str, _: str) -> None:
        packed = _packed_nothing()
        head = OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
        await self._send(word, writer, head + packed)

    async def _reset(self, writer: asyncio.StreamWriter, _word: str, _: str) -> bool:
        return _reset(writer)

    async def _reset_after_head(self, writer: asyncio.StreamWriter, word: str, _: str) -> bool:
        await self._send(word, writer, OK + b"content-length: 1000\r\n\r\nbegun")
        await asyncio.sleep(0.1)
        return _reset(writer)

    async def _continues(self, writer: asyncio.StreamWriter, word: str, _: str) -> None:
        await self._send(word, writer, b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000)
        await self._send(word, writer, b"HTTP/1.1 204 Enough\r\n\r\n")

    async def _hints(self, writer: asyncio.StreamWriter, word: str, _: str) -> None:
        hint = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n"
        await self._send(word, writer, hint * 5_000)
        await self._send(word, writer, b"HTTP/1.1 204 Enough\r\n\r\n")

    async def _endless_continues(self, writer: asyncio.StreamWriter, word: str, _: str) -> None:
        some = b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000
        await self._send(word, writer, some, times=10**9)

    async def _long_header(self, writer: asyncio.StreamWriter, word: str, _: str) -> None:
        await self._send(word, writer, OK + b"x-long: ")
        await self._send(word, writer, b"x" * BLOCK, times=160)
        await self._send(word, writer, b"\r\ncontent-length: 0\r\n\r\n")

    async def _many_headers(self, writer: asyncio.StreamWriter, word: str, _: str) -> None:
        await self._send(word, writer, OK)
        await self._send(word, writer, b"x-many: 1\r\n" * 1_000, times=100)
        await self._send(word, writer, b"content-length: 0\r\n\r\n")

    async def _endless_head(self, writer: asyncio.StreamWriter, word: str, _: str) -> None:
        await self._send(word, writer, OK)
        await self._send(word, writer, b"x-many: 1\r\n" * 1_000, times=10**9)

    async def _close(self, writer: asyncio.StreamWriter, word: str, detail: str) -> bool:
        await self._send(word, writer, b"HTTP/1.1 204 And Goodbye\r\n\r\n")
        await asyncio.sleep(random.uniform(0.0, float(detail or 0)))
        return False

    async def _close_on_next(self, writer: asyncio.StreamWriter, word: str, _: str) -> None:
        await self._send(word, writer, b"HTTP/1.1 204 And One More\r\n\r\n")


@cache
def _packed_nothing() -> bytes:
    """100 MiB of zeros by gzip: a thousandth of it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # 16: in gzip's frame
    return b"".join(packer.compress(bytes(2**20)) for _ in range(100)) + packer.flush()


def _reset(writer: asyncio.StreamWriter) -> bool:
    """End a connection by RST instead of FIN."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


@asynccontextmanager
async def speak_first(greeting: bytes) -> AsyncIterator[int]:
    """Listen on a port, greet whoever connects, and say and do no more; answer the port."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
