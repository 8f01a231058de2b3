"""`/jobs/test` and `/jobs/validate`: what a job would do, before there is one."""

from base64 import b64encode

from fastapi import APIRouter, Request, Response

from handler_service import answers, bodies, criteria, expectations, reads, rows
from handler_service.context import Context
from handler_service.criteria import Unasked
from handler_service.openapi import json_body, problems
from handler_service.problems import NoExecutor, NoReply, RedisAway, TooManyTrials, Unavailable
from handler_service.schemas.jobs import JobIn
from handler_service.schemas.trials import CalledOut, ExpectIn, TrialIn, ValidatedOut
from handler_service.trials import AT_ONCE_MAX
from shared import trials
from shared.trials import Called, Looked, Trial

LOOK_SECONDS = 5.0
TOO_MANY = TooManyTrials(AT_ONCE_MAX)

router = APIRouter(tags=["jobs"])


@router.post(
    "/jobs/test",
    response_model=CalledOut,
    summary="Make a call now, and see the answer",
    operation_id="testJob",
    openapi_extra=json_body(TrialIn),
    response_description="What came of the call, whatever it is",
    responses=problems(
        *(400, 413, 415, 422),
        *(NoExecutor(trials.TAKE_SECONDS), RedisAway(), NoReply(), Unavailable(), TOO_MANY),
    ),
)
async def test_job(request: Request) -> Response:
    """Have an executor make this call as it would make a run's, and compare the answer.

    Signed alike, under the same egress rules, as attempt 1, under a webhook-id of its own that
    begins with `test_`; an event in its body names job 0. It is made once: nothing is tried again,
    and no history is kept.
    """
    context = Context.of(request)
    with context.trials.place():
        wanted = await bodies.read(request, TrialIn, bytes_max=rows.job_bytes_max(context))
        payload = wanted.encoded_payload(wanted.headers)
        rows.check_sizes([payload], ["#"], bytes_max=context.settings.payload_bytes_max)
        called = await context.trials.call(
            Trial(
                id=trials.new_id(),
                application_id=context.application_id,
                url=wanted.url,
                method=wanted.method,
                headers=wanted.headers,
                payload=payload,
                timeout_seconds=wanted.timeout,
            )
        )
    return answers.json(_called_out(wanted.expect, called))


@router.post(
    "/jobs/validate",
    response_model=ValidatedOut,
    summary="See whether a job is valid, and why not",
    operation_id="validateJob",
    openapi_extra=json_body(JobIn),
    response_description="Every criterion, met or not",
    responses=problems(400, 413, 415, TOO_MANY),
)
async def validate_job(request: Request) -> Response:
    """Ask everything of a job that a create and an executor would, without creating or calling.

    A job with faults is answered 200, with all of them. What only an executor can tell, whether the
    host resolves and its address is allowed, is null when none answers.
    """
    context = Context.of(request)
    with context.trials.place():
        raw = await bodies.receive(request, bytes_max=rows.job_bytes_max(context))

        async def look(url: str) -> Looked | Unasked:
            trial = Trial(trials.new_id(), context.application_id, url, LOOK_SECONDS, call=False)
            try:
                return await context.trials.look(trial)
            except (NoExecutor, NoReply, RedisAway, Unavailable) as refusal:
                return Unasked(refusal.title + ".")

        verdict = await criteria.judge(
            bodies.parse_json(raw),
            payload_bytes_max=context.settings.payload_bytes_max,
            look=look,
            clock=lambda: reads.clock(context.pool),
        )
    return answers.json(
        {
            "valid": verdict.is_valid,
            "criteria": [criterion._asdict() for criterion in verdict.criteria],
            "errors": [violation._asdict() for violation in verdict.violations],
        }
    )


def _called_out(expected: ExpectIn | None, called: Called) -> dict[str, object]:
    judged = expectations.judge(expected, called) if expected is not None else []
    headers: dict[str, str] = {}
    for name, value in called.headers:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    body, encoding = _text_or_base64(called.body)
    return {
        "delivered": called.is_delivered,
        "status": called.status,
        "headers": headers,
        "body": None if called.status is None else body,
        "body_encoding": encoding,
        "body_is_whole": called.is_whole,
        "duration_ms": called.duration_ms,
        "error": called.error,
        "expectations": [expectation._asdict() for expectation in judged],
        "met": all(each.met for each in judged) if judged else called.is_delivered,
    }


def _text_or_base64(body: bytes) -> tuple[str, str]:
    try:
        return body.decode(), "text"
    except UnicodeDecodeError:
        return b64encode(body).decode(), "base64"
