"""From the upstream to the client. The last byte goes out only after the charge is committed.

The relay belongs to the process, not to the client's connection: a client that leaves is drained and charged for what
the upstream made.
"""

import asyncio
import functools
import time
from dataclasses import replace
from typing import Any

import orjson
import structlog

from billing.money import format_credits
from billing.teller import Capture, RowRefused, Settled, StoredResponse, TellerUnavailable
from billing.usage_counts import NO_UNITS
from proxy.gateway import image_tool, metrics
from proxy.gateway.activity import ACTIVITY
from proxy.gateway.admission import Cashier
from proxy.gateway.artifacts import Gallery, ImageStore
from proxy.gateway.attempts import Attempts, Deadlines, Opened
from proxy.gateway.errors import GatewayError, Unavailable
from proxy.gateway.exchange import NOTHING, Ending, Exchange, Measured, capture_of, measure
from proxy.gateway.images import ImageMeter
from proxy.gateway.keys import Keyring
from proxy.gateway.meters import EVENTS
from proxy.gateway.owned import Objects
from proxy.gateway.pulse import PULSE
from proxy.gateway.sinks import MAX_REPLAY_BYTES, Sink
from proxy.gateway.streams import StreamPump, outcome_of
from proxy.gateway.tokens import count
from proxy.gateway.traces import Traces
from proxy.gateway.transcripts import Transcripts

log = structlog.get_logger(__name__)

CAPTURE_TIMEOUT_S = 60.0


class Relay:
    """Carries exchanges that have a hold. Each ends in exactly one capture."""

    def __init__(
        self,
        *,
        attempts: Attempts,
        cashier: Cashier,
        keyring: Keyring,
        deadlines: Deadlines,
        objects: Objects,
        sells_credit: bool = True,
        images: ImageStore | None = None,
        transcripts: Transcripts | None = None,
        traces: Traces | None = None,
    ) -> None:
        self._attempts = attempts
        self._cashier = cashier
        self._keyring = keyring
        self._objects = objects
        self._deadlines = deadlines
        self._sells_credit = sells_credit
        self._gallery = Gallery(images)
        self._transcripts = transcripts or Transcripts(None)
        self._traces = traces

    async def run(self, exchange: Exchange, sink: Sink, headers: list[tuple[str, str]]) -> None:
        """Answer `exchange` into `sink`. Raises `GatewayError` when nothing was sent yet; then nothing is charged."""
        opened: Opened | None = None
        try:
            opened = await self._attempts.open(exchange, sink)
            if opened.is_stream:
                await self._stream(exchange, opened, sink, headers)
            else:
                await self._whole(exchange, opened, sink, headers)
        except GatewayError as error:
            if not exchange.is_captured:
                ending = Ending(outcome_of(error), error.status, error.code or "")
                await self.settle(exchange, capture_of(exchange, ending, NOTHING))
            raise
        finally:
            if opened is not None:
                self._attempts.close(opened)
            if not exchange.is_captured:
                await self._interrupted(exchange, NOTHING)
            if exchange.key.transcript_days:
                self._transcripts.add(exchange)

    async def settle(self, exchange: Exchange, capture: Capture, images: Capture | None = None) -> Settled:
        """Commit the charge; returns the account's balance after it. Shielded: a cancelled caller loses nothing.

        What goes with it ends with it: as `images` says, else without a charge. Raises `Unavailable` when PostgreSQL
        does not come back in time: the capture stays queued and will commit.
        """
        exchange.is_captured = True
        if exchange.companion is None:
            return await self._commit(exchange, capture)
        if images is None:
            ending = Ending(capture.outcome, capture.status_code, capture.error_code)
            images = image_tool.released(exchange, ending)
        is_used = bool(images.input_tokens or images.output_tokens or images.units)
        both = asyncio.gather(
            self._commit(exchange, capture), self._commit(exchange.companion, images, is_counted=is_used)
        )
        return max(await asyncio.shield(both), key=lambda settled: settled.version)

    async def _commit(self, exchange: Exchange, capture: Capture, *, is_counted: bool = True) -> Settled:
        asked_at = time.perf_counter()
        exchange.is_charged = capture.cost > 0
        try:
            async with asyncio.timeout(CAPTURE_TIMEOUT_S):
                settled = await self._cashier.teller.capture(capture)
        except (RowRefused, TellerUnavailable):
            exchange.is_charged = False
            raise
        except TimeoutError:
            log.error("capture_waits_for_database", request_id=str(capture.request_id), cost=capture.cost)
            raise Unavailable(retry_s=5) from None
        if not is_counted:
            return settled
        metrics.answered(
            capture.endpoint,
            capture.model,
            capture.outcome,
            latency_s=capture.latency_ms / 1000,
            ttft_s=None if capture.ttft_ms is None else capture.ttft_ms / 1000,
            input_tokens=capture.input_tokens,
            output_tokens=capture.output_tokens,
            cost=capture.cost,
        )
        if self._traces is not None:
            self._traces.charged(exchange, capture, asked_at=asked_at)
        PULSE.ended(capture)
        ACTIVITY.add(capture.organization_id)
        if not capture.cost and capture.outcome == "completed" and not exchange.rate.is_free:
            log.error("answer_cost_nothing", request_id=str(capture.request_id), model=capture.model)
        return settled

    async def _interrupted(self, exchange: Exchange, measured: Measured, made: Measured = NOTHING) -> None:
        ending = Ending("interrupted", 499, "interrupted")
        capture, images = capture_of(exchange, ending, measured), _images(exchange, ending, made)
        await self.settle(exchange, capture, images)

    async def _whole(self, exchange: Exchange, opened: Opened, sink: Sink, headers: list[tuple[str, str]]) -> None:
        body, parsed = opened.body, opened.parsed
        assert body is not None and parsed is not None  # noqa: S101, PT018 - Opened says so
        exchange.saw_first_byte()
        ending, measured = Ending("completed"), _measured(exchange, parsed)
        if parsed.get("status") == "failed" and exchange.endpoint.keeps:
            ending = Ending("upstream_error", 200, "response_failed")
        capture = capture_of(exchange, ending, measured)
        companion = exchange.companion
        made = NOTHING if companion is None else image_tool.of_answer(companion, parsed)
        images = _images(exchange, ending, made)
        cost = capture.cost + (images.cost if images is not None else 0)
        batch = self._gallery.begin(companion or exchange)
        if batch is not None and self._gallery.name_all(batch, parsed):
            body = orjson.dumps(parsed)
        render = exchange.endpoint.render
        rendered = render(exchange.job, parsed) if render is not None else None
        if rendered is not None:
            body = rendered.body
        headers += [
            ("content-type", rendered.media_type if rendered is not None else "application/json"),
            ("x-cost-credits", format_credits(cost)),
            ("x-upstream", exchange.attempts[-1]["deployment"]),
            *_image_headers(exchange),
        ]
        if exchange.idempotency_key and len(body) <= MAX_REPLAY_BYTES:
            capture = replace(capture, response=StoredResponse(200, list(headers), body))
        if exchange.key.transcript_days:
            exchange.answer = body
        settled = await self.settle(exchange, capture, images)
        await self._keep(exchange, _text(parsed.get("id")), parsed.get("store"))
        await self._gallery.keep(batch, capture.cost if images is None else images.cost)
        if self._sells_credit:
            headers.append(("x-credits-remaining", format_credits(settled.available)))
        await sink.whole(200, headers, body)

    # ------------------------------------------------------------ a stream

    async def _stream(self, exchange: Exchange, opened: Opened, sink: Sink, headers: list[tuple[str, str]]) -> None:
        meter = exchange.endpoint.meter(exchange.job)
        companion = exchange.companion
        batch = self._gallery.begin(companion or exchange)
        if batch is not None and isinstance(meter, ImageMeter | image_tool.ToolMeter):
            meter.name = functools.partial(self._gallery.name, batch)
        deadlines = self._deadlines
        if companion is not None:  # an image takes as long in the middle of a stream as before its first byte
            deadlines = replace(deadlines, idle_s=max(deadlines.idle_s, deadlines.first_byte_s))
        pump = StreamPump(exchange, meter, sink, cashier=self._cashier, deadlines=deadlines)
        headers += [
            ("content-type", meter.media_type),
            ("cache-control", "no-cache"),
            ("x-accel-buffering", "no"),
            ("x-upstream", exchange.attempts[-1]["deployment"]),
            *_image_headers(exchange),
        ]
        if exchange.idempotency_key or exchange.key.transcript_days:
            sink.record(MAX_REPLAY_BYTES)
        try:
            await sink.start(200, headers)
            error = await pump.run(opened, lambda: self._keyring.is_ended(exchange.key, exchange.started_at))
        except BaseException:
            await self._interrupted(exchange, pump.measured(), pump.made())
            raise
        finally:
            if exchange.key.transcript_days:
                exchange.answer = sink.recorded
        ending = pump.ending(error)
        capture, images = capture_of(exchange, ending, pump.measured()), _images(exchange, ending, pump.made())
        cost = capture.cost + (images.cost if images is not None else 0)
        last = meter.last(error)
        if exchange.idempotency_key and error is None and last is not None:
            capture = replace(capture, response=sink.stored(headers, last))
        settled = await self.settle(exchange, capture, images)
        await self._keep(exchange, meter.object_id, None)
        await self._gallery.keep(batch, capture.cost if images is None else images.cost)
        if last is None:
            return
        if meter.media_type == EVENTS:
            left = f": x-credits-remaining {format_credits(settled.available)}\n" if self._sells_credit else ""
            last += f": x-cost-credits {format_credits(cost)}\n{left}\n".encode()
        await sink.write(last, more=False)

    async def _keep(self, exchange: Exchange, upstream_id: str | None, is_stored: object) -> None:
        """Remember whose the object is that the upstream keeps of this answer, before the client knows it whole."""
        kind, deployment = exchange.endpoint.keeps, exchange.deployment
        if not kind or not upstream_id or deployment is None:
            return
        if is_stored is not False and exchange.job.body.get("store") is not False:
            await self._objects.record(
                organization_id=exchange.key.organization_id,
                kind=kind,
                upstream_id=upstream_id,
                deployment_id=deployment.id,
            )


def _measured(exchange: Exchange, answer: dict[str, Any]) -> Measured:
    """What a whole answer used."""
    endpoint, usage = exchange.endpoint, answer.get("usage")
    if usage is None and answer.get("status") in {"failed", "queued", "in_progress"} and endpoint.keeps:
        return NOTHING

    def produced() -> int:
        return count(endpoint.text_of(answer), exchange.route.model) if endpoint.text_of is not None else 0

    delivered = endpoint.delivered(exchange.job, answer) if endpoint.delivered is not None else NO_UNITS
    return measure(exchange, usage, produced, tier=_text(answer.get("service_tier")), delivered=delivered)


def _images(exchange: Exchange, ending: Ending, made: Measured) -> Capture | None:
    """The capture of what goes with the exchange, if anything does."""
    return None if exchange.companion is None else image_tool.capture(exchange, ending, made)


def _image_headers(exchange: Exchange) -> list[tuple[str, str]]:
    companion = exchange.companion
    return [] if companion is None else [(image_tool.HEADER, f"req_{companion.request_id.hex}")]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
