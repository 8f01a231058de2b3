"""Sends calls: again where that is safe and may help, and raises what is no answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from onthedot.address import Address
from onthedot.call import NDJSON, Call
from onthedot.errors import (
    NoAnswerError,
    OnthedotError,
    UnexpectedAnswerError,
    UnreachableError,
    refusal,
)
from onthedot.retries import NEVER_SENT, Retries

Model = TypeVar("Model", bound=BaseModel)


class AsyncTransport:
    """One connection pool to one server; one that is given belongs to others too."""

    def __init__(self, http: httpx.AsyncClient | None, address: Address, retries: Retries) -> None:
        self._is_ours = http is None
        self._http = httpx.AsyncClient() if http is None else http
        self._address = address
        self._retries = retries

    async def fetch(self, call: Call, model: type[Model]) -> Model:
        """Send a call, and read its answer as this model."""
        return parse(await self.send(call), model)

    async def send(self, call: Call) -> httpx.Response:
        """Send a call until it is answered; raises OnthedotError for what is no 2xx."""
        response = await self._answered(call, is_whole=True)
        if not response.is_success:
            raise refusal(response)
        return response

    @asynccontextmanager
    async def stream(self, call: Call, **options: Any) -> AsyncIterator[httpx.Response]:
        """Send a call until it is answered; what it answers is read by the caller."""
        response = await self._answered(call, **options)
        try:
            if not response.is_success:
                raise refusal(response)
            yield response
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close every connection of ours."""
        if self._is_ours:
            await self._http.aclose()

    async def _answered(
        self, call: Call, *, is_whole: bool = False, **options: Any
    ) -> httpx.Response:
        """Send until an answer stands; one that refuses has been read, others if `is_whole`."""
        sent = 0
        while True:
            sent += 1
            try:
                response = await self._http.send(self._request(call, options), stream=True)
                if response.is_success and not is_whole:
                    return response
                await _read(response)
                wait = self._retries.after_answer(call, response, sent)
                if wait is None:
                    return response
            except httpx.RequestError as error:
                wait = self._retries.after_error(call, error, sent)
                if wait is None:
                    raise _lost(error) from error
            await asyncio.sleep(wait)

    def _request(self, call: Call, options: dict[str, Any]) -> httpx.Request:
        headers = {**self._address.headers, **call.headers}
        if call.lines is not None:
            headers["content-type"] = NDJSON
        body = {"json": call.body} if call.body is not None else {"content": call.lines}
        options = {"timeout": self._address.timeout, **body, **options}
        return self._http.build_request(
            call.method,
            f"{self._address.url}{call.path}",
            params=call.query or None,
            headers=headers,
            **options,
        )


def parse(response: httpx.Response, model: type[Model]) -> Model:
    """Read an answer as this model; raises UnexpectedAnswerError if it is none."""
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise UnexpectedAnswerError(
            f"The answer to {response.request.method} {response.request.url.path} is not one of "
            "Onthedot's. Check the address, and what lies in between.",
            status=response.status_code,
        ) from error


async def _read(response: httpx.Response) -> None:
    try:
        await response.aread()
    finally:
        await response.aclose()


def _lost(error: httpx.RequestError) -> OnthedotError:
    reason = str(error) or type(error).__name__
    if isinstance(error, NEVER_SENT):
        return UnreachableError(f"Cannot connect: {reason}")
    return NoAnswerError(f"No answer came, and the request may have been processed: {reason}")
