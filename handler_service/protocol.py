"""What uvicorn leaves open of HTTP/1.1: an end to header blocks, and a problem for what is no HTTP.

The application sees neither: both are refused before there is a request.
"""

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from handler_service.problems import MEDIA_TYPE, HeadersTooLarge, MalformedRequest, Problem

# Read while a request's head is incomplete, beside the first read (at most 256 KiB).
HEAD_BYTES_MAX = 65_536


class Protocol(HttpToolsProtocol):
    """One client's connection."""

    _head_bytes: int | None = None  # None between a request's head and the next

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head does not end."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(HeadersTooLarge(HEAD_BYTES_MAX))
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin to count."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Cease to count."""
        self._head_bytes = None
        self.scope["state"]["abort"] = self.transport.abort
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser could not read."""
        del msg
        self._refuse(MalformedRequest())

    def _refuse(self, problem: Problem) -> None:
        body = orjson.dumps(problem.body())
        headers = [
            *self.server_state.default_headers,
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        head = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + body)
        self.transport.close()
