"""Traces by OTLP over HTTP, when OTEL_EXPORTER_OTLP_ENDPOINT is set; without it no OpenTelemetry is imported."""

import time
from collections.abc import Sequence
from functools import cache
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.conf import settings
from uuid_utils.compat import uuid7

from billing import settlement
from proxy.gateway.traces import CLIENT, INTERNAL, SERVER, Span, Traces, root_id

EXPORT_TIMEOUT_S = 5
FLUSH_TIMEOUT_MS = 5_000


class Exporter:
    """Queues spans for a thread that sends them. What does not fit into the queue is dropped."""

    def __init__(self, endpoint: str) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - an optional dependency, half a second of imports
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        self._trace: Any = trace
        self._readable = ReadableSpan
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come before our own name.
        self._resource = Resource({SERVICE_NAME: "tuppence"}).merge(OTELResourceDetector().detect())
        self._processor = BatchSpanProcessor(
            OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
        )
        self._kinds = {
            SERVER: trace.SpanKind.SERVER,
            CLIENT: trace.SpanKind.CLIENT,
            INTERNAL: trace.SpanKind.INTERNAL,
        }

    def export(self, spans: Sequence[Span]) -> None:
        for span in spans:
            self._processor.on_end(self._readable_of(span))

    def close(self) -> None:
        """Send what is queued, for a few seconds at most."""
        self._processor.force_flush(FLUSH_TIMEOUT_MS)
        self._processor.shutdown()

    def _readable_of(self, span: Span) -> Any:
        trace = self._trace
        status = trace.StatusCode.ERROR if span.is_error else trace.StatusCode.UNSET
        return self._readable(
            name=span.name,
            context=self._context(span.trace_id, span.span_id),
            parent=self._context(span.trace_id, span.parent_id) if span.parent_id else None,
            resource=self._resource,
            attributes=span.attributes,
            links=[trace.Link(self._context(*link)) for link in span.links],
            kind=self._kinds[span.kind],
            status=trace.Status(status),
            start_time=span.started_ns,
            end_time=span.ended_ns,
        )

    def _context(self, trace_id: int, span_id: int) -> Any:
        trace = self._trace
        return trace.SpanContext(
            trace_id, span_id, is_remote=False, trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED)
        )


@cache
def exporter(endpoint: str) -> Exporter:
    """One a process; made with the first span, so that no thread of it is forked."""
    return Exporter(endpoint)


def traces() -> Traces | None:
    """What the gateway tells of its requests; None while tracing is off."""
    endpoint = settings.OTEL_EXPORTER_OTLP_ENDPOINT
    if not endpoint:
        return None
    return Traces(
        exporter(endpoint).export, ratio=settings.OTEL_TRACES_SAMPLER_ARG, trusted=settings.OTEL_TRUSTED_PROVIDERS
    )


async def close() -> None:
    """Send what is left. Twice does no harm."""
    endpoint = settings.OTEL_EXPORTER_OTLP_ENDPOINT
    if endpoint and exporter.cache_info().currsize:
        await sync_to_async(exporter(endpoint).close, thread_sensitive=False)()
        exporter.cache_clear()


def listen() -> None:
    """Tell of settlement, too, in the processes where it happens."""
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
        settlement.posted.connect(_settled, dispatch_uid="proxy.tracing")


def _settled(
    *, account_id: int, summary: dict[str, Any], request_ids: list[UUID], began_at: float, **_more: object
) -> None:
    """One batch of settlement is a trace of its own, linked to requests that are in it."""
    now_ns = time.time_ns()
    own: UUID = uuid7()
    span = Span(
        "settle",
        INTERNAL,
        own.int,
        root_id(own),
        0,
        now_ns - round((time.perf_counter() - began_at) * 1e9),
        now_ns,
        {
            "tuppence.account_id": account_id,
            "tuppence.records": summary["records"],
            "tuppence.cost_nanos": summary["cost"],
        },
        links=tuple((each.int, root_id(each)) for each in request_ids),
    )
    exporter(settings.OTEL_EXPORTER_OTLP_ENDPOINT).export([span])
