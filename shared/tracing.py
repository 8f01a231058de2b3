"""Traces, for OpenTelemetry: each attempt is linked with the request that created its job.

A link and not a parent: a job may be called months later, and again and again. Nothing is traced
unless OTEL_EXPORTER_OTLP_ENDPOINT names a collector; then it costs some 50 µs a span. Who created a
job is kept with it all the same, when its request said so.
"""

import re
from contextvars import ContextVar

from opentelemetry.trace import Span, SpanContext, TraceFlags, Tracer

from shared import VERSION

# W3C Trace Context, 3.2.2: version, trace, parent, flags. Of later versions this much is told too.
TRACEPARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>.*)"
)
SECONDS_TO_TELL_THE_REST = 3.0

# The `traceparent` under which this request creates what it creates; None: its caller said none.
creator: ContextVar[str | None] = ContextVar("creator", default=None)


class CannotTrace(Exception):  # noqa: N818  # it is raised once, at the start, and says a remedy
    """A collector is named, and what speaks to it is not installed."""


class Tracing:
    """The way to a collector: spans go there in batches, behind what they tell of."""

    def __init__(self, endpoint: str, *, service: str) -> None:
        """`endpoint`: an OTLP collector's base URL. Raises CannotTrace without the extra `otel`."""
        try:
            # Half a second and 30 MB, which only those pay who trace.
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
                OTLPSpanExporter,
            )
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        except ImportError:
            raise CannotTrace(
                "OTEL_EXPORTER_OTLP_ENDPOINT needs the extra packages of `otel`: install "
                "onthedot-server[otel], or leave it empty"
            ) from None
        resource = Resource.create(
            {"service.name": f"onthedot-{service}", "service.version": VERSION}
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer: Tracer = self._provider.get_tracer("onthedot", VERSION)

    def close(self) -> None:
        """Tell the rest, if the collector takes it soon."""
        self._provider.force_flush(int(SECONDS_TO_TELL_THE_REST * 1_000))
        self._provider.shutdown()


def read_traceparent(text: str | None) -> SpanContext | None:
    """Read what `traceparent` names; None for what names nothing (W3C Trace Context, 3.2.2.3)."""
    found = TRACEPARENT.match(text) if text else None
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"]):
        return None
    trace_id, span_id, flags = (int(found[word], 16) for word in ("trace", "parent", "flags"))
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return context if context.is_valid else None


def traceparent_of(span: Span) -> str:
    """Write the `traceparent` of a span, version 00."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
