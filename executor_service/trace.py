"""One span per attempt, for OpenTelemetry, linked with the request that created the job."""

from opentelemetry.trace import Link, SpanKind, StatusCode, Tracer

from executor_service.client import read_target
from executor_service.fire import Outcome, PutOff, Sender, error_class, run_id
from shared import tracing
from shared.runs.moves import Claim


async def fire_traced(tracer: Tracer, sender: Sender, claim: Claim) -> Outcome | PutOff:
    """Make one attempt, and tell of it: which run it was and what came of it, not what was sent.

    The receiver gets our `traceparent`, unless the job brings one of its own.
    """
    creator = tracing.read_traceparent(claim.traceparent)
    with tracer.start_as_current_span(
        f"{claim.method} webhook",
        kind=SpanKind.CLIENT,
        links=[] if creator is None else [Link(creator)],
        attributes={
            "onthedot.job.id": claim.job_id,
            "onthedot.run.id": run_id(claim),
            "onthedot.attempt": claim.attempt,
            "http.request.method": claim.method,
            **_server(claim.url),
        },
    ) as span:
        headers = claim.headers or {}
        if not any(name.lower() == "traceparent" for name in headers):
            headers = {**headers, "traceparent": tracing.traceparent_of(span)}
        outcome = await sender.fire(claim._replace(headers=headers))
        if isinstance(outcome, PutOff):
            span.set_attribute("onthedot.outcome", "put_off")
            return outcome
        span.set_attribute("onthedot.outcome", type(outcome).__name__.lower())
        if outcome.status is not None:
            span.set_attribute("http.response.status_code", outcome.status)
        if error := getattr(outcome, "error", None):
            span.set_attribute("error.type", str(outcome.status or error_class(error)))
            span.set_status(StatusCode.ERROR)
        return outcome


def _server(url: str) -> dict[str, str | int]:
    """Where it goes. The rest of a URL may hold a secret."""
    try:
        target = read_target(url)
    except ValueError:
        return {}
    return {"server.address": target.host, "server.port": target.port}
