"""What became of a request, as spans. They are made once, when its charge is committed, from what it kept anyway.

The trace's id is the request's, so that one finds the other; the spans' ids follow from it. A client's `traceparent`
is kept as a link and not joined: anybody can send one. Spans carry ids and amounts, never prompts, keys or names.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from uuid import UUID

import structlog

from billing.teller import Capture
from proxy.gateway.exchange import Exchange
from proxy.gateway.snapshots import Deployment

SERVER, CLIENT, INTERNAL = "server", "client", "internal"
# Trace Context, section 3.2: version, trace-id, parent-id, flags.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
# The last 56 bits of a UUIDv7 are random (RFC 9562, 5.7).
_RANDOM_BITS = 56
_FAILED = frozenset({"upstream_error", "upstream_cut", "timeout", "interrupted"})

log = structlog.get_logger(__name__)

Link = tuple[int, int]  # trace id, span id


@dataclass(frozen=True, slots=True)
class Span:
    """One span; `parent_id` 0: the first of its trace. Times are Unix nanoseconds."""

    name: str
    kind: str
    trace_id: int
    span_id: int
    parent_id: int
    started_ns: int
    ended_ns: int
    attributes: Mapping[str, str | int | bool]
    is_error: bool = False
    links: tuple[Link, ...] = ()


class Traces:
    """Hands the spans of every request that is kept to `export`, which must not wait.

    `trusted` are the providers, by slug, that get a `traceparent`; `ratio` is the share of requests to keep.
    """

    def __init__(
        self, export: Callable[[list[Span]], None], *, ratio: float = 1.0, trusted: frozenset[str] = frozenset()
    ) -> None:
        self._export = export
        self._threshold = round(ratio * 2**_RANDOM_BITS)
        self._trusted = trusted

    def keeps(self, request_id: UUID) -> bool:
        return bool(request_id.int & (2**_RANDOM_BITS - 1) < self._threshold)

    def headers(self, exchange: Exchange, deployment: Deployment) -> dict[str, str]:
        """What tells a trusted provider of the trace. A tenant's own key leads to somebody else's account: nothing."""
        if deployment.provider not in self._trusted or deployment.is_own_key:
            return {}
        span_id = attempt_id(exchange.request_id, len(exchange.attempts))
        flags = "01" if self.keeps(exchange.request_id) else "00"
        return {"traceparent": f"00-{exchange.request_id.hex}-{span_id:016x}-{flags}"}

    def charged(self, exchange: Exchange, capture: Capture, *, asked_at: float) -> None:
        """The request has ended and its charge, asked for at `asked_at`, is committed. Raises nothing."""
        if not self.keeps(exchange.request_id):
            return
        try:
            self._export(spans_of(exchange, capture, asked_at=asked_at, committed_at=time.perf_counter()))
        except Exception as error:
            log.warning("trace_not_exported", error=type(error).__name__, request_id=exchange.request_id.hex)


def spans_of(exchange: Exchange, capture: Capture, *, asked_at: float, committed_at: float) -> list[Span]:
    """The request, its attempts and its charge. Times come in on the performance counter, in seconds."""
    since_epoch_ns = time.time_ns() - time.perf_counter_ns()

    def ns(seconds: float) -> int:
        return since_epoch_ns + round(seconds * 1e9)

    trace_id, root = exchange.request_id.int, root_id(exchange.request_id)
    spans = [
        Span(
            f"POST {capture.endpoint}",
            SERVER,
            trace_id,
            root,
            0,
            ns(exchange.started_at),
            ns(committed_at),
            _of_request(exchange, capture),
            is_error=capture.outcome in _FAILED,
            links=link_of(exchange.traceparent),
        )
    ]
    # A Realtime turn begins with the attempts of its session, which had their time elsewhere.
    timed = exchange.attempts[len(exchange.attempts) - len(exchange.attempt_times) :]
    for number, (attempt, (began, ended)) in enumerate(zip(timed, exchange.attempt_times, strict=True)):
        answered = attempt["status"] == 200 and not attempt["error"]
        attributes: dict[str, str | int | bool] = {
            "tuppence.deployment": attempt["deployment"],
            "tuppence.attempt": number + 1,
            "http.response.status_code": attempt["status"],
        }
        if attempt["error"]:
            attributes["error.type"] = attempt["error"]
        if answered and capture.upstream_request_id:
            attributes["tuppence.upstream_request_id"] = capture.upstream_request_id
        # The one that answered goes on until its answer has been read: until the charge is asked for.
        spans.append(
            Span(
                "upstream",
                CLIENT,
                trace_id,
                attempt_id(exchange.request_id, number),
                root,
                ns(began),
                ns(asked_at if answered else ended),
                attributes,
                is_error=not answered,
            )
        )
    charge_id = _id(exchange.request_id, "charge")
    charged: dict[str, str | int | bool] = {"tuppence.cost_nanos": capture.cost, "tuppence.hold_nanos": capture.hold}
    spans.append(Span("charge", INTERNAL, trace_id, charge_id, root, ns(asked_at), ns(committed_at), charged))
    return spans


def _of_request(exchange: Exchange, capture: Capture) -> dict[str, str | int | bool]:
    attributes: dict[str, str | int | bool] = {
        "http.request.method": "POST",
        "http.route": capture.endpoint,
        "http.response.status_code": capture.status_code,
        "tuppence.request_id": f"req_{exchange.request_id.hex}",
        "tuppence.organization": exchange.key.organization_slug,
        "tuppence.key_id": capture.key_id or 0,
        "tuppence.model": capture.model,
        "tuppence.outcome": capture.outcome,
        "tuppence.is_stream": capture.stream,
        "tuppence.is_estimated": capture.estimated,
        "tuppence.input_tokens": capture.input_tokens,
        "tuppence.output_tokens": capture.output_tokens,
        "tuppence.hold_nanos": capture.hold,
        "tuppence.cost_nanos": capture.cost,
    }
    if capture.ttft_ms is not None:
        attributes["tuppence.first_byte_ms"] = capture.ttft_ms
    if capture.error_code:
        attributes["error.type"] = capture.error_code
    return attributes


def link_of(traceparent: str) -> tuple[Link, ...]:
    """The span that a client says it is in, if it says so in the right form."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return ()
    trace_id, span_id = int(found[1], 16), int(found[2], 16)
    return ((trace_id, span_id),) if trace_id and span_id else ()


def root_id(request_id: UUID) -> int:
    return _id(request_id, "request")


def attempt_id(request_id: UUID, number: int) -> int:
    return _id(request_id, f"upstream {number}")


def _id(request_id: UUID, name: str) -> int:
    """Never 0, which no span may have."""
    return int.from_bytes(blake2b(request_id.bytes + name.encode(), digest_size=8).digest()) or 1
