"""`PATCH /timers/{id}`: change what has not begun."""

from fastapi import APIRouter, Request, Response

from handler_service import answers, bodies, job_lock, reads
from handler_service.context import Context
from handler_service.openapi import json_body, problems
from handler_service.paths import ID_MAX, TimerId
from handler_service.problems import TimerHasBegun, TimerNotFound
from handler_service.rows import COLUMNS, changed_webhook_values, job_bytes_max
from handler_service.schemas.timers import DELAY_PARTS, TimerEditIn, TimerOut
from handler_service.timers import NOT_FOUND, TOO_LATE
from shared.events import of_job
from shared.runs import moves
from shared.runs.moves import Edit

router = APIRouter(tags=["timers"])


@router.patch(
    "/timers/{timer_id:id}",
    response_model=TimerOut,
    summary="Change a timer",
    operation_id="editTimer",
    openapi_extra=json_body(TimerEditIn),
    response_description="The timer is changed",
    responses=problems(400, NOT_FOUND, TOO_LATE, 413, 415, 422, 503),
)
async def edit_timer(request: Request, timer_id: TimerId) -> Response:
    """Change a timer that has not begun.

    After a 200 it is called as it is now and never as it was; after a 409 it stays as it was.
    """
    context = Context.of(request)
    wanted = await bodies.read(request, TimerEditIn, bytes_max=job_bytes_max(context))
    if timer_id > ID_MAX:
        raise TimerNotFound(timer_id)
    whose = {"application_id": context.application_id}
    async with context.pool.connection() as connection, job_lock.held(connection, timer_id):
        present = await reads.request(connection, timer_id=timer_id, **whose)
        if present is None:
            raise TimerNotFound(timer_id)
        edit = _edit(context, wanted, present)
        if await moves.edit(connection, job_id=timer_id, edit=edit, **whose) is None:
            if await reads.request(connection, timer_id=timer_id, **whose) is None:
                raise TimerNotFound(timer_id)  # cancelled just now
            raise TimerHasBegun(timer_id)
    context.events.tell([of_job("job.changed", context.application_id, timer_id)])
    is_delayed = wanted.gives_a_delay()
    left = wanted.delay_seconds if is_delayed else present.seconds_left
    # Without a new delay too: a claim may have passed over the run while it was being changed. What
    # was left then is rounded up.
    context.announcer.due_in(left if is_delayed else left - 1)
    return answers.json({"id": timer_id, "time_left": left})


def _edit(context: Context, wanted: TimerEditIn, present: reads.Request) -> Edit:
    """Say what changes."""
    values = changed_webhook_values(context, wanted, present)
    values |= {"delay_seconds": float(wanted.delay_seconds)}
    changed = [_COLUMNS.get(name, name) for name in wanted.model_fields_set]
    return Edit(changed, **{name: values[name] for name in changed})


_COLUMNS = COLUMNS | dict.fromkeys(DELAY_PARTS, "delay_seconds")
