"""Which events are asked for, and from where on."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from handler_service.event_source import Place
from handler_service.paths import ID_MAX
from handler_service.schemas.body import Body, MayBeLeftOut
from handler_service.schemas.request_parts import refuse
from shared.events import TYPES, EventType

EXAMPLE = """\
retry: 1000

id: 1795252201661-0

id: 1795252202000-0.1
event: run.done
data: {"type":"run.done","job_id":17,"scheduled_for":"2026-11-21T09:00:00.000Z","attempt":1,\
"at":"2026-11-21T09:00:00.021Z"}

"""


def _check_place(text: str) -> str:
    if Place.read(text) is None:
        raise refuse(
            "event_id", "Must be the id of an event of ours; leave it out to hear of new ones"
        )
    return text


def _read_id(text: object) -> object:
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 19:
        return int(text)
    raise refuse("job_id", "Must be an integer, written in digits")


EventId = Annotated[
    str,
    Field(max_length=64, examples=["1795252202000-0.1"]),
    AfterValidator(_check_place),
]
_JobId = Annotated[int, Field(ge=1, le=ID_MAX, examples=[17]), BeforeValidator(_read_id)]


class EventsIn(Body):
    """What a listener wants to hear."""

    last_event_id: MayBeLeftOut[EventId] = Field(
        None, description="As the header `Last-Event-ID`, where a client cannot set it first."
    )
    job_id: MayBeLeftOut[_JobId] = Field(None, description="Of this job only.")
    type: list[EventType] = Field(
        default_factory=list,
        max_length=len(TYPES),
        description="Of these types only; may be given several times.",
    )
