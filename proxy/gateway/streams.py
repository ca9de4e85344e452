"""Pumping a stream: piece by piece, with deadlines, keep-alives, checkpoints and a hold that grows as it must."""

import asyncio
import time
from collections.abc import Callable

import structlog

from proxy.gateway import image_tool
from proxy.gateway.admission import Cashier
from proxy.gateway.attempts import LOOK_AROUND_S, Deadlines, Opened
from proxy.gateway.errors import (
    GatewayError,
    Unauthenticated,
    UpstreamCut,
    UpstreamFailed,
    UpstreamRejected,
    UpstreamTimeout,
)
from proxy.gateway.exchange import NOTHING, Ending, Exchange, Measured, capture_of, estimated, measure
from proxy.gateway.meters import EVENTS, Meter
from proxy.gateway.sinks import Sink
from proxy.gateway.sse import FrameTooLarge
from proxy.gateway.upstream import TimedOut, UpstreamError

log = structlog.get_logger(__name__)

KEEP_ALIVE_S = 15.0
CHECKPOINT_S = 10.0
# A stream without a limit of the client's own is measured this often, so that it cannot run far past its hold.
POLICE_BYTES = 16 * 1024


class StreamPump:
    """One stream on its way from the upstream to the client."""

    __slots__ = (
        "_cashier",
        "_deadlines",
        "_drain_until",
        "_exchange",
        "_last_piece_at",
        "_last_write_at",
        "_meter",
        "_policed_at",
        "_policed_bytes",
        "_sink",
        "_started_at",
    )  # fmt: skip

    def __init__(self, exchange: Exchange, meter: Meter, sink: Sink, *, cashier: Cashier, deadlines: Deadlines) -> None:
        self._exchange = exchange
        self._meter = meter
        self._sink = sink
        self._cashier = cashier
        self._deadlines = deadlines
        now = asyncio.get_running_loop().time()
        self._started_at = self._last_piece_at = self._last_write_at = self._policed_at = now
        self._policed_bytes = 0
        self._drain_until: float | None = None

    async def run(self, opened: Opened, is_revoked: Callable[[], bool]) -> GatewayError | None:
        """Relay until the stream ends; returns the error that ended it, None if it came to its end."""
        loop = asyncio.get_running_loop()
        piece = opened.body
        while True:
            now = loop.time()
            if piece is not None:
                is_over, error = await self._take(piece, now)
                if is_over:
                    return error
            if is_revoked():
                return Unauthenticated("This API key has been revoked.")
            error = self._overdue(now) or await self._police(now)
            if error is not None:
                return error
            try:
                piece = await opened.answer.chunk(LOOK_AROUND_S)
            except TimedOut:
                piece = None
                await self._keep_alive(loop.time())
            except UpstreamError:
                return UpstreamCut()

    def measured(self) -> Measured:
        """What to charge for the stream as far as it came."""

        def produced() -> int | None:
            tokens = self._meter.output_tokens(self._exchange.route.model)
            return tokens if tokens or self._meter.is_whole else None

        meter = self._meter
        if meter.is_failed and meter.usage is None:
            return NOTHING
        return measure(self._exchange, meter.usage, produced, tier=meter.tier, delivered=meter.delivered)

    def made(self) -> Measured:
        """What the image tool made of it as far as it came."""
        companion = self._exchange.companion
        return NOTHING if companion is None else image_tool.of_stream(companion, self._meter)

    def ending(self, error: GatewayError | None) -> Ending:
        """How the stream ended, given what `run` returned."""
        if self._sink.is_gone and (error is None or isinstance(error, UpstreamTimeout)):
            return Ending("client_closed")
        if error is None:
            return Ending("upstream_error", 200, "response_failed") if self._meter.is_failed else Ending("completed")
        return Ending(outcome_of(error), 200, error.code or "")

    async def _take(self, piece: bytes, now: float) -> tuple[bool, GatewayError | None]:
        """Relay one piece (b"": the upstream's end). Returns whether the stream is over, and the error if it failed."""
        meter = self._meter
        self._last_piece_at = now
        try:
            ready = meter.feed(piece) if piece else meter.flush()
        except FrameTooLarge:
            return True, UpstreamFailed()
        if ready:
            self._exchange.saw_first_byte()
            self._last_write_at = now
            await self._sink.write(ready)
        if meter.error is not None:
            log.warning("upstream_error_event", request_id=str(self._exchange.request_id))
            return True, UpstreamFailed()
        if meter.is_done:
            return True, None
        if not piece:
            return True, None if meter.is_whole else UpstreamCut()
        return False, None

    def _overdue(self, now: float) -> GatewayError | None:
        """The error when a deadline has passed: the upstream's, or of draining it after the client left."""
        if self._drain_until is None and self._sink.is_gone:
            self._drain_until = now + self._deadlines.drain_s
        is_late = now - self._last_piece_at > self._deadlines.idle_s or now - self._started_at > self._deadlines.total_s
        is_drained = self._drain_until is not None and now > self._drain_until
        return UpstreamTimeout() if is_late or is_drained else None

    async def _keep_alive(self, now: float) -> None:
        if now - self._last_write_at > KEEP_ALIVE_S and self._meter.media_type == EVENTS:
            self._last_write_at = now
            await self._sink.write(b": keep-alive\n\n")

    async def _police(self, now: float) -> GatewayError | None:
        """Write down what a long stream has cost so far; extend a hold that runs out, or say why it cannot be."""
        exchange, meter = self._exchange, self._meter
        is_unlimited = exchange.job.output_tokens is None and exchange.output_cap is None
        is_due = now - self._policed_at > CHECKPOINT_S
        if not is_due and not (is_unlimited and meter.relayed_bytes - self._policed_bytes > POLICE_BYTES):
            return None
        self._policed_at, self._policed_bytes = now, meter.relayed_bytes
        produced = meter.output_tokens(exchange.route.model)
        if time.perf_counter() - exchange.started_at >= CHECKPOINT_S:
            progress = capture_of(exchange, Ending("interrupted"), estimated(exchange, produced)).cost
            self._cashier.teller.checkpoint(exchange.request_id, progress)
            if exchange.companion is not None:
                images = image_tool.capture(exchange, Ending("interrupted"), self.made())
                self._cashier.teller.checkpoint(images.request_id, images.cost)
        if not is_unlimited or produced * 5 < exchange.hold_output_tokens * 4:
            return None
        refusal = await self._cashier.extend(exchange)
        return refusal if produced >= exchange.hold_output_tokens else None


def outcome_of(error: GatewayError) -> str:
    """The `outcome` of the usage record for a request that `error` ended."""
    if isinstance(error, UpstreamRejected):
        return "rejected"
    if isinstance(error, UpstreamTimeout):
        return "timeout"
    if isinstance(error, UpstreamCut):
        return "upstream_cut"
    return "refused" if error.status in {401, 403, 429} else "upstream_error"
