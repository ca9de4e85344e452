"""The money of one session. Each response is a request of its own, with its hold, its charge and its record.

The hold for a response is taken before the one before it has gone out to the client: a session is always paid ahead by
one response, and ends when that is refused. A transcription of what the user said is a second meter, at the price of
the model that made it.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from billing import pricing
from billing.teller import Capture, Settled, TellerUnavailable
from billing.usage_counts import InvalidUsage, usage_from_openai
from proxy.gateway import ceilings, tokens
from proxy.gateway.admission import Cashier
from proxy.gateway.audio import TOKENS_PER_S
from proxy.gateway.errors import GatewayError, Unavailable
from proxy.gateway.exchange import NOTHING, Ending, Exchange, Measured, capture_of, price
from proxy.gateway.jobs import Endpoint, Job
from proxy.gateway.realtime.listening import Listener
from proxy.gateway.realtime.minutes import Minutes, said_by
from proxy.gateway.realtime.upstream import PATH
from proxy.gateway.snapshots import Deployment, Key, Route

log = structlog.get_logger(__name__)

ENDPOINT = Endpoint(PATH, "realtime")
# What a turn may add to the context before its hold has to grow: some minutes of speech, or pages of text.
SLACK_TOKENS = 2_000
CHECKPOINT_S = 5.0

Settle = Callable[[Exchange, Capture], Awaitable[Settled]]


@dataclass(frozen=True, slots=True)
class Ticket:
    """Who talks to which model, on whose account."""

    session_id: UUID
    key: Key
    route: Route
    rate: pricing.Rate
    end_user: str = ""
    run_id: str = ""
    org_label: str = ""
    own_key: str = ""
    max_nanos: int | None = None
    run_max_nanos: int | None = None


class Turns:
    """Holds and charges. `settle` commits a charge before it returns."""

    def __init__(
        self,
        ticket: Ticket,
        listener: Listener,
        *,
        cashier: Cashier,
        settle: Settle,
        route_of: Callable[[str], Route | None],
        minutes: Minutes,
    ) -> None:
        self._ticket = ticket
        self._listener = listener
        self._cashier = cashier
        self._settle = settle
        self._route_of = route_of
        self._minutes = minutes
        self._exchange: Exchange | None = None
        self._checkpointed_at = 0.0
        self.deployment: Deployment | None = None
        self.attempts: list[dict[str, Any]] = []
        self.cost_nanos = 0
        self.responses = 0

    async def begin(self) -> None:
        """Hold for the next response. Raises the error to end with: no credit, a budget, a block, PostgreSQL away."""
        listener, ticket = self._listener, self._ticket
        context = tokens.with_margin(listener.context_tokens) + SLACK_TOKENS
        job = Job(
            model=ticket.route.model,
            body={},
            is_stream=True,
            wants_usage=True,
            prompt_tokens=context,
            input_tokens=context,
            output_tokens=listener.max_output_tokens,
            answers=1,
        )
        exchange = Exchange(
            request_id=uuid7(),
            key=ticket.key,
            endpoint=ENDPOINT,
            job=job,
            route=ticket.route,
            rate=ticket.rate,
            started_at=time.perf_counter(),
            end_user=ticket.end_user,
            run_id=ticket.run_id,
            org_label=ticket.org_label,
            own_key=ticket.own_key,
            max_nanos=None if ticket.max_nanos is None else ticket.max_nanos - self.cost_nanos,
            run_max_nanos=ticket.run_max_nanos,
            deployment=self.deployment,
            attempts=list(self.attempts),
        )
        if exchange.max_nanos is not None and exchange.max_nanos <= 0:
            raise ceilings.exceeded(ticket.max_nanos or 0, self.cost_nanos)
        try:
            await self._cashier.hold(exchange)
        except TellerUnavailable:
            raise Unavailable from None
        self._exchange = exchange

    def connected(self, deployment: Deployment, attempts: list[dict[str, Any]]) -> None:
        """The provider that serves the session from now on."""
        self.deployment, self.attempts = deployment, attempts
        if self._exchange is not None:
            self._exchange.deployment, self._exchange.attempts = deployment, list(attempts)

    def made_something(self) -> None:
        """The response under way begins to arrive."""
        if self._exchange is not None:
            self._exchange.saw_first_byte()

    def started(self) -> None:
        """A response begins: its time counts from here."""
        if self._exchange is not None and len(self._listener.making) <= 1:
            self._exchange.started_at = time.perf_counter()

    async def grow(self) -> GatewayError | None:
        """Let the hold keep up with what is under way; the error to end with when it may not grow."""
        exchange, listener = self._exchange, self._listener
        if exchange is None:
            return None
        made = listener.made_tokens()
        if made and time.monotonic() - self._checkpointed_at > CHECKPOINT_S:
            self._checkpointed_at = time.monotonic()
            self._cashier.teller.checkpoint(exchange.request_id, self._cost_so_far(exchange))
        reads = listener.context_tokens * max(1, len(listener.making))
        if made < exchange.hold_output_tokens and reads <= exchange.job.input_tokens:
            return None
        exchange.job.input_tokens = max(exchange.job.input_tokens, reads + SLACK_TOKENS)
        try:
            return await self._cashier.extend(exchange)
        except TellerUnavailable:
            return Unavailable()

    async def charge_response(self, response: dict[str, Any]) -> GatewayError | None:
        """A response is done, however: charge it and hold for the next. Returns the error to end the session with."""
        exchange = self._exchange
        response_id = str(response.get("id"))
        raw = response.get("usage")
        usage = _reported(raw, exchange)
        estimate = self._listener.estimate(response_id)
        said = said_by(response) or self._listener.text_of(response_id)
        is_estimated = (usage is None or not usage.input_tokens + usage.output_tokens) and estimate.output_tokens > 0
        self._listener.finished(response_id, None if is_estimated else usage)
        if is_estimated:
            usage = estimate
        ending = Ending("completed")
        if response.get("status") == "failed":
            ending = Ending("upstream_error", 200, "response_failed")
        elif response.get("status") == "cancelled" and usage is None:
            ending = Ending("client_closed", 200, "response_cancelled")
        measured = Measured(usage, is_estimated=is_estimated, reported=raw if isinstance(raw, dict) else None)
        if exchange is None:  # refused before; what was made all the same is charged without a hold
            exchange = self._without_hold(self._ticket.route, self._ticket.rate)
        self._exchange = None
        self.responses += 1
        exchange.upstream_request_id = response_id[:200]
        await self._charge(exchange, ending, measured)
        self._minutes.answered(exchange, said)
        try:
            await self.begin()
        except GatewayError as error:
            return error
        return None

    async def charge_transcription(self, event: dict[str, Any]) -> None:
        """The second meter: what the user said was written down."""
        route = self._route_of(self._listener.transcription_model)
        if route is None or route.rate is None:
            log.error("transcription_unpriced", model=self._listener.transcription_model)
            return
        exchange = self._without_hold(route, route.rate)
        exchange.upstream_request_id = str(event.get("item_id"))[:200]
        raw = event.get("usage")
        usage = _reported(raw, exchange)
        is_estimated = usage is None
        if usage is None:
            milliseconds = self._listener.committed_ms
            if "milliseconds" in route.rate.units:
                usage = pricing.Usage(units={"milliseconds": milliseconds})
            else:
                heard = -(-milliseconds * TOKENS_PER_S // 1000)
                written = tokens.count(str(event.get("transcript") or ""), route.model)
                usage = pricing.Usage(audio_input=heard, output=written)
            # Its hold is part of the session's: the estimate itself is the most that it costs.
            exchange.hold_nanos = price(usage, route.rate, "default", 0)
        measured = Measured(usage, is_estimated=is_estimated, reported=raw if isinstance(raw, dict) else None)
        await self._charge(exchange, Ending("completed"), measured)
        self._minutes.transcribed(exchange, str(event.get("transcript") or ""))

    async def give_up(self) -> None:
        """No provider took the session: give back what is held."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            code = self.attempts[-1]["error"] if self.attempts else ""
            await self._settle(exchange, capture_of(exchange, Ending("upstream_error", 502, code), NOTHING))

    async def end(self, ending: Ending) -> None:
        """The session is over: charge what is under way as far as it came, give back what is held."""
        exchange, self._exchange = self._exchange, None
        under_way = self._listener.estimate_all()
        if exchange is None:
            if under_way is None:
                return
            exchange = self._without_hold(self._ticket.route, self._ticket.rate)
            exchange.hold_nanos = price(under_way, exchange.rate, "default", 0)
        if under_way is None:
            capture = capture_of(exchange, Ending("completed", 200, "session_ended"), NOTHING)
            await self._cashier.teller.capture(capture)
            self._minutes.answered(exchange, "")
            return
        exchange.upstream_request_id = next(iter(self._listener.making))[:200]
        said = "\n".join(self._listener.text_of(response_id) for response_id in self._listener.making)
        self._listener.making.clear()
        await self._charge(exchange, ending, Measured(under_way, is_estimated=True))
        self._minutes.answered(exchange, said)

    async def _charge(self, exchange: Exchange, ending: Ending, measured: Measured) -> None:
        capture = capture_of(exchange, ending, measured)
        self.cost_nanos += capture.cost
        await self._settle(exchange, capture)

    def _cost_so_far(self, exchange: Exchange) -> int:
        under_way = self._listener.estimate_all()
        return 0 if under_way is None else min(exchange.hold_nanos, price(under_way, exchange.rate, "default", 0))

    def _without_hold(self, route: Route, rate: pricing.Rate) -> Exchange:
        job = Job(
            model=route.model,
            body={},
            is_stream=True,
            wants_usage=True,
            prompt_tokens=0,
            input_tokens=0,
            output_tokens=None,
            answers=1,
        )
        return Exchange(
            request_id=uuid7(),
            key=self._ticket.key,
            endpoint=ENDPOINT,
            job=job,
            route=route,
            rate=rate,
            started_at=time.perf_counter(),
            end_user=self._ticket.end_user,
            run_id=self._ticket.run_id,
            org_label=self._ticket.org_label,
            deployment=self.deployment if route is self._ticket.route else None,
            attempts=list(self.attempts),
        )


def _reported(raw: Any, exchange: Exchange | None) -> pricing.Usage | None:
    try:
        return usage_from_openai(raw)
    except InvalidUsage as error:
        log.warning(
            "upstream_usage_invalid", request_id=str(exchange.request_id) if exchange else "", problem=str(error)
        )
        return None
