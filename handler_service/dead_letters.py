"""`/dead-letters`: list the runs that failed for good or are uncertain; give them another life."""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from handler_service import answers, bodies
from handler_service import dead_letter_reads as reads
from handler_service.bodies import ENVELOPE_BYTES_MAX
from handler_service.context import Context
from handler_service.openapi import header, json_body, problems
from handler_service.paths import ID_MAX, JobId
from handler_service.problems import DeadLetterNotFound, NotReplayable, Unavailable
from handler_service.reads import clock
from handler_service.schemas import instants
from handler_service.schemas.dead_letters import (
    DeadLetterList,
    DeadLetterPage,
    ReplayCountOut,
    ReplayedOut,
    ReplayIn,
)
from handler_service.schemas.instants import FIRST, LAST, US_MAX
from shared.events import of_runs
from shared.runs import moves
from shared.runs.moves import DeadLetters

REPLAYS_MAX = 1_000  # in one statement
CURSOR = "MTc5NTI1MjIwMTY2MTAwMC4xNy4xNzk1MjUxNjAwMTIzNDU2"
NEXT_PAGE = f'</dead-letters?limit=50&cursor={CURSOR}>; rel="next"'
# How often a letter is looked at whose row somebody else has, and how long between two looks.
LOOKS_MAX = 20
LOOK_SECONDS = 0.05
WAS_REPLAYED = "It was replayed already."

router = APIRouter(tags=["dead letters"])
ScheduledFor = Annotated[
    str,
    Path(
        description="The instant the run was planned for, as the list answers it, or with "
        "microseconds, as its `replay` path has it.",
        examples=["2026-11-21T09:00:00.123456Z"],
        json_schema_extra={"format": "date-time"},
    ),
]


@router.get(
    "/dead-letters",
    response_model=DeadLetterList,
    summary="List dead letters, newest first",
    operation_id="listDeadLetters",
    response_description="One page",
    responses=problems(422, 503)
    | {200: {"headers": header("Link", "The next page, when there is one.", NEXT_PAGE)}},
)
async def list_dead_letters(request: Request, page: Annotated[DeadLetterPage, Query()]) -> Response:
    """List the runs that failed for good or are uncertain, and were not replayed since."""
    context = Context.of(request)
    before_finished, before_job, before_run = _read_place(page.cursor)
    wanted = reads.Wanted(
        application_id=context.application_id,
        state=page.state,
        host=page.host,
        finished_from=page.from_ or FIRST,
        finished_to=page.to or LAST,
        before_finished=before_finished,
        before_job=before_job,
        before_run=before_run,
        most=page.limit + 1,
    )
    found = await reads.dead_letters(context.pool, wanted)
    letters = found[: page.limit]
    query = page.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"cursor"})
    return answers.page(
        "/dead-letters",
        [_out(letter) for letter in letters],
        next_cursor=_write_place(letters[-1]) if len(found) > page.limit else None,
        query=query,
    )


@router.post(
    "/dead-letters/{job_id:id}/{scheduled_for}/replay",
    status_code=202,
    response_model=ReplayedOut,
    summary="Replay a dead letter",
    operation_id="replayDeadLetter",
    response_description="The run is pending again",
    responses=problems(
        DeadLetterNotFound(17, "2026-11-21T09:00:00.123Z"), NotReplayable(WAS_REPLAYED), 503
    ),
)
async def replay_dead_letter(
    request: Request, job_id: JobId, scheduled_for: ScheduledFor
) -> Response:
    """Make a dead letter pending again, at once: the same request, under the same webhook-id.

    Its attempts are counted on; its retry policy starts anew. Of two replays at once one is made.
    """
    context = Context.of(request)
    runs = _read_runs(context, job_id, scheduled_for)
    for _ in range(LOOKS_MAX):
        letter = await _find(context, runs)
        if letter is None:
            raise DeadLetterNotFound(job_id, scheduled_for)
        wanted = DeadLetters(
            context.application_id,
            job_id=job_id,
            scheduled_for_us=letter.scheduled_for,
            # Where the index has it; so that only one row is looked at.
            finished_from=letter.finished_at / 1e6,
            finished_to=(letter.finished_at + 1) / 1e6,
        )
        async with context.pool.connection() as connection:
            replayed = await moves.replay(connection, wanted, most=1)
        if replayed:
            break
        # Somebody has its row: replays it too, or moves it to the partition of its day.
        await asyncio.sleep(LOOK_SECONDS)
    else:
        raise Unavailable("Its row is being moved; try again.")
    context.events.tell(of_runs("run.pending", replayed))
    context.announcer.due_in(0)
    return answers.json(
        {
            "job_id": job_id,
            "scheduled_for": instants.write_instant(letter.scheduled_for),
            "attempt": letter.attempt + 1,
        },
        status=202,
    )


@router.post(
    "/dead-letters/replay",
    status_code=202,
    response_model=ReplayCountOut,
    summary="Replay every dead letter that fits",
    operation_id="replayDeadLetters",
    openapi_extra=json_body(ReplayIn),
    response_description="The runs are pending again",
    responses=problems(400, 413, 415, 422, 503),
)
async def replay_dead_letters(request: Request) -> Response:
    """Make dead letters pending again, the oldest first: those that are dead now.

    In steps of 1,000. After a 503 some may have been replayed: ask again for the others.
    """
    context = Context.of(request)
    wanted = await bodies.read(request, ReplayIn, bytes_max=ENVELOPE_BYTES_MAX)
    # What fails again while we are at it is left alone; else this might never end.
    now = await clock(context.pool)
    letters = DeadLetters(
        context.application_id,
        job_id=wanted.job_id,
        state=wanted.state,
        finished_from=None if wanted.from_ is None else wanted.from_.timestamp(),
        finished_to=min(wanted.to or now, now).timestamp(),
        host=wanted.host,
    )
    replayed, moved = 0, REPLAYS_MAX
    while moved == REPLAYS_MAX:
        async with context.pool.connection() as connection:
            runs = await moves.replay(connection, letters, most=REPLAYS_MAX)
        moved = len(runs)
        replayed += moved
        if moved:
            context.announcer.due_in(0)
            context.events.tell(of_runs("run.pending", runs))
    return answers.json({"replayed": replayed}, status=202)


async def _find(context: Context, runs: reads.Runs) -> reads.LetterOfRun | None:
    """Find the one dead letter of these runs. Raises NotReplayable for what is none."""
    letters = await reads.letters_of(context.pool, runs)
    if not letters:
        state = await reads.state_of(context.pool, runs)
        if state is None:
            return None
        if state not in {"failed", "uncertain"}:
            raise NotReplayable(f"It is no dead letter, or not any more: it is {state}.")
        letters = await reads.letters_of(context.pool, runs)  # it may have died just now
        if not letters:
            raise NotReplayable(WAS_REPLAYED)
    if len(letters) > 1:
        raise NotReplayable("Two runs fit; name one to the microsecond, as its replay path does.")
    [letter] = letters
    if letter.is_of_ended_job:
        raise NotReplayable("Its job was ended.")
    if letter.attempt > moves.REPLAYED_ATTEMPT_MAX:
        raise NotReplayable("It was attempted too often; create a timer instead.")
    return letter


def _read_runs(context: Context, job_id: int, scheduled_for: str) -> reads.Runs:
    """Say which runs of a job a path names: those of its millisecond, or of its microsecond."""
    try:
        run_from = instants.read_instant(scheduled_for)
    except ValueError:
        raise DeadLetterNotFound(job_id, scheduled_for) from None
    if job_id > ID_MAX:
        raise DeadLetterNotFound(job_id, scheduled_for)
    is_exact = instants.is_to_the_microsecond(scheduled_for)
    width = timedelta(microseconds=1 if is_exact else 1_000)
    return reads.Runs(context.application_id, job_id, run_from, min(run_from, LAST - width) + width)


def _out(letter: reads.DeadLetter) -> dict[str, object]:
    scheduled_for = instants.write_instant(letter.scheduled_for, timespec="microseconds")
    response = letter.response
    return {
        **letter._asdict(),
        "scheduled_for": instants.write_instant(letter.scheduled_for),
        "started_at": instants.maybe(letter.started_at),
        "finished_at": instants.write_instant(letter.finished_at),
        "response": None if response is None else response.decode(errors="replace"),
        "replay": f"/dead-letters/{letter.job_id}/{scheduled_for}/replay",
    }


def _write_place(letter: reads.DeadLetter) -> str:
    return answers.write_cursor(letter.finished_at, letter.job_id, letter.scheduled_for)


def _read_place(cursor: str | None) -> tuple[datetime, int, datetime]:
    if cursor is None:
        return LAST, ID_MAX, LAST
    finished_at, job_id, run = answers.read_cursor(cursor, maxima=[US_MAX, ID_MAX, US_MAX])
    return instants.from_microseconds(finished_at), job_id, instants.from_microseconds(run)
