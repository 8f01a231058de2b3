"""`GET /ledger`: every run that was accepted, and where each of them is."""

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import (
    BigInteger,
    Integer,
    Text,
    bindparam,
    func,
    literal,
    select,
    text,
    union_all,
)

from handler_service import answers, scans
from handler_service.context import Context
from handler_service.openapi import problems
from handler_service.problems import TooMuchToCount
from handler_service.schemas.figures import LedgerOut
from shared.database import Connection, Read
from shared.runs.lifecycle import OUTSTANDING, RunState
from shared.runs.model import executions, jobs, schedules

LEDGER_SECONDS_MAX = 60.0
PLACES = tuple(state.value for state in RunState)
ENDS = tuple(state.value for state in RunState if state not in OUTSTANDING)

router = APIRouter(tags=["history"])

_ours = jobs.c.application_id == bindparam("application_id", type_=Integer)
# How a run ended: of what was replayed since, the end is yet to come.
is_end = text(
    f"executions.state in ({', '.join(map(repr, ENDS))}) and executions.replayed_at is null"
)
# What was accepted is counted by the jobs; where the runs are, by the rows they are.
_LEDGER = Read(
    select(
        union_all(
            select(
                literal("accepted", Text).label("place"),
                func.coalesce(func.sum(jobs.c.runs_made), 0).cast(BigInteger).label("runs"),
            ).where(_ours),
            select(executions.c.state, func.count())
            .select_from(executions.join(jobs, jobs.c.id == executions.c.job_id))
            .where(_ours, is_end)
            .group_by(executions.c.state),
            select(schedules.c.state, func.count())
            .select_from(schedules.join(jobs, jobs.c.id == schedules.c.job_id))
            .where(_ours)
            .group_by(schedules.c.state),
        ).subquery()
    )
)


@router.get(
    "/ledger",
    response_model=LedgerOut,
    summary="Account for every run",
    operation_id="readLedger",
    response_description="The ledger, at one moment",
    responses=problems(TooMuchToCount(), 503),
)
async def get_ledger(request: Request) -> Response:
    """Count every run that was accepted, and every place that a run can be in.

    Both are counted apart from each other and at one moment; so they add up, or we lost a run. Of
    jobs that are still kept: what is pruned leaves both sides.
    """
    context = Context.of(request)
    async with scans.snapshot(context, seconds=LEDGER_SECONDS_MAX) as connection:
        return answers.json(await ledger(connection, application_id=context.application_id))


async def ledger(connection: Connection, *, application_id: int) -> dict[str, Any]:
    """Answer how many runs were accepted, how many are in each place, and whether that adds up."""
    counts: dict[str, int] = dict.fromkeys(("accepted", *PLACES), 0)
    counts |= dict(await _LEDGER.rows(connection, application_id=application_id))
    return {**counts, "adds_up": counts["accepted"] == sum(counts[place] for place in PLACES)}
