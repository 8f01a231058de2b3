# Made by `make docs` from asynchronous/transport.py: change that one.
"""Sends calls: again where that is safe and may help, and raises what is no answer."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
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


class Transport:
    """One connection pool to one server; one that is given belongs to others too."""

    def __init__(self, http: httpx.Client | None, address: Address, retries: Retries) -> None:
        self._is_ours = http is None
        self._http = httpx.Client() if http is None else http
        self._address = address
        self._retries = retries

    def fetch(self, call: Call, model: type[Model]) -> Model:
        """Send a call, and read its answer as this model."""
        return parse(self.send(call), model)

    def send(self, call: Call) -> httpx.Response:
        """Send a call until it is answered; raises OnthedotError for what is no 2xx."""
        response = self._answered(call, is_whole=True)
        if not response.is_success:
            raise refusal(response)
        return response

    @contextmanager
    def stream(self, call: Call, **options: Any) -> Iterator[httpx.Response]:
        """Send a call until it is answered; what it answers is read by the caller."""
        response = self._answered(call, **options)
        try:
            if not response.is_success:
                raise refusal(response)
            yield response
        finally:
            response.close()

    def close(self) -> None:
        """Close every connection of ours."""
        if self._is_ours:
            self._http.close()

    def _answered(self, call: Call, *, is_whole: bool = False, **options: Any) -> httpx.Response:
        """Send until an answer stands; one that refuses has been read, others if `is_whole`."""
        sent = 0
        while True:
            sent += 1
            try:
                response = self._http.send(self._request(call, options), stream=True)
                if response.is_success and not is_whole:
                    return response
                _read(response)
                wait = self._retries.after_answer(call, response, sent)
                if wait is None:
                    return response
            except httpx.RequestError as error:
                wait = self._retries.after_error(call, error, sent)
                if wait is None:
                    raise _lost(error) from error
            time.sleep(wait)

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


def _read(response: httpx.Response) -> None:
    try:
        response.read()
    finally:
        response.close()


def _lost(error: httpx.RequestError) -> OnthedotError:
    reason = str(error) or type(error).__name__
    if isinstance(error, NEVER_SENT):
        return UnreachableError(f"Cannot connect: {reason}")
    return NoAnswerError(f"No answer came, and the request may have been processed: {reason}")
