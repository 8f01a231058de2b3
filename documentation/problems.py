"""Every way of refusing a caller, from the classes that do it."""

from collections.abc import Iterator

from documentation.markdown import code, head, table
from handler_service.problems import MEDIA_TYPE, Problem

OPENING = f"""
Every refusal is a problem of [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457), of the type
`{MEDIA_TYPE}`: `type` (`urn:onthedot:problem:` and the code), `title`, `status`, `detail`,
`code`. A 422 adds `errors`, each with a `pointer` to the field ([RFC
6901](https://www.rfc-editor.org/rfc/rfc6901), or the name of a parameter or a header) and a
`detail`. Programs go by `code`, which never changes; `title` and `detail` are for people.

A path or a method that does not exist is answered by 404 `not_found` and 405
`method_not_allowed`. After any 503 ask again, with the same `Idempotency-Key` if the request
creates something; `Retry-After` says when.
"""


def page() -> str:
    """Render every problem, by status and code; each has an anchor of its code."""
    found = sorted({(kind.status, kind.code): kind for kind in _kinds(Problem)}.items())
    rows = [
        (
            f'<a id="{name}"></a>{code(name)}',
            str(status),
            kind.title,
            _when(kind),
        )
        for (status, name), kind in found
    ]
    header = ("code", "status", "title", "when")
    return "\n".join([head("Problems", OPENING.strip()), table(header, rows)])


def _when(kind: type[Problem]) -> str:
    if kind is Problem:
        return "A failure of ours. It is in the log of the handler."
    return (kind.__doc__ or "").partition("\n")[0]


def _kinds(kind: type[Problem]) -> Iterator[type[Problem]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)
