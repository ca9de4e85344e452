"""One admitted request, from its hold to its capture, and what it is charged.

What a request is charged for each way in which it can end (the table is published in `docs/settlement.md`):

| how it ended | usage reported | usage missing or nonsense |
|---|---|---|
| completed | exactly that, 0 included | estimate, at most the hold |
| client gone, upstream drained | exactly that | estimate of what was produced, at most the hold |
| upstream cut or failed after output | exactly that | estimate of what was produced, at most the hold |
| upstream failed before output | nothing | nothing |
| refused by the upstream (4xx) | nothing | nothing |
| ended by us (credit, budget, revoked key) | exactly that | estimate of what was produced, at most the hold |
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog

from billing import pricing
from billing.teller import Capture, StoredResponse
from billing.usage_counts import NO_UNITS, InvalidUsage, usage_from_openai
from proxy.gateway.jobs import Endpoint, Job
from proxy.gateway.snapshots import Deployment, Key, Route

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Exchange:
    """The state of one request in flight. Times are on the performance counter, in seconds.

    `provider` is the only one that can serve it; empty: any. `api_version` is what the client asked of it. `max_nanos`
    and `run_max_nanos` are the client's own ceilings for this request and for its run. `own_key` is the upstream key
    that came with it. `visibility` is that of its images in the gallery; empty: they are not kept. `answer` is what the
    client got, where transcripts are kept. `companion` is what its hosted image tool makes: a request of its own that
    begins and ends with this one. `traceparent` is the client's own, unread. `attempt_times` are beginning and end of
    the last attempts. `is_charged` is whether it costs something, committed or still on its way to be.
    """

    request_id: UUID
    key: Key
    endpoint: Endpoint
    job: Job
    route: Route
    rate: pricing.Rate
    started_at: float
    end_user: str = ""
    run_id: str = ""
    own_key: str = field(default="", repr=False)
    visibility: str = ""
    max_nanos: int | None = None
    run_max_nanos: int | None = None
    api_version: str = ""
    provider: str = ""
    hold_nanos: int = 0
    hold_output_tokens: int = 0
    output_cap: int | None = None
    idempotency_key: str = ""
    first_byte_at: float | None = None
    deployment: Deployment | None = None
    upstream_request_id: str = ""
    traceparent: str = ""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    attempt_times: list[tuple[float, float]] = field(default_factory=list)
    is_captured: bool = False
    is_charged: bool = False
    answer: bytes = field(default=b"", repr=False)
    companion: "Exchange | None" = None

    @property
    def beside_nanos(self) -> int:
        """What is held for its companion: one ceiling binds both."""
        return 0 if self.companion is None else self.companion.hold_nanos

    def saw_first_byte(self) -> None:
        if self.first_byte_at is None:
            self.first_byte_at = time.perf_counter()


@dataclass(frozen=True, slots=True)
class Ending:
    """How the request ended: `outcome` of the usage record, the status that the client got, and an error's code."""

    outcome: str
    status_code: int = 200
    error_code: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a request used: the usage to charge (None: nothing), the upstream's own words, and the tier to price by."""

    usage: pricing.Usage | None = None
    is_estimated: bool = False
    reported: dict[str, Any] | None = None
    tier: str | None = None


NOTHING = Measured()


def measure(
    exchange: Exchange,
    reported: Any,
    count_output: Callable[[], int | None],
    *,
    tier: str | None = None,
    delivered: Mapping[str, int] = NO_UNITS,
) -> Measured:
    """What the upstream reported; where that is missing or nonsense, an estimate from the output that we saw.

    `count_output` is asked only then; it gives the output's tokens, None if there was no output at all. `delivered` is
    what the answer delivered beside tokens.
    """
    endpoint = exchange.endpoint
    raw = reported if isinstance(reported, dict) else None
    usage: pricing.Usage | None = None
    if reported is not None:
        try:
            usage = usage_from_openai(reported, output_kind=endpoint.output_kind, needs_output=endpoint.makes_output)
        except InvalidUsage as error:
            log.warning("upstream_usage_invalid", request_id=str(exchange.request_id), problem=str(error))
    if endpoint.charge is not None:
        usage = endpoint.charge(exchange.job, exchange.rate, usage, delivered)
    if usage is not None:
        return Measured(usage, reported=raw, tier=tier)
    produced = count_output()
    if produced is None:
        return Measured(reported=raw, tier=tier)
    return estimated(exchange, produced, reported=raw, tier=tier)


def estimated(
    exchange: Exchange, output_tokens: int, *, reported: dict[str, Any] | None = None, tier: str | None = None
) -> Measured:
    """An estimate: the prompt as we counted it, and `output_tokens` of text; or as the endpoint knows better."""
    estimate = exchange.endpoint.estimate
    if estimate is not None:
        usage = estimate(exchange.job, exchange.rate, output_tokens)
    else:
        usage = pricing.Usage(input=exchange.job.prompt_tokens, output=output_tokens)
    return Measured(usage, is_estimated=True, reported=reported, tier=tier)


def capture_of(
    exchange: Exchange, ending: Ending, measured: Measured, *, response: StoredResponse | None = None
) -> Capture:
    """The capture that ends `exchange`: usage, cost and everything that its row in the request log says."""
    usage, tier = measured.usage, tier_of(exchange, measured.tier)
    cost, upstream_cost = 0, None
    if usage is not None:
        cost = price(usage, exchange.rate, tier, exchange.hold_nanos)
        if measured.is_estimated:
            cost = min(cost, exchange.hold_nanos)
        cost_rate = exchange.deployment.cost_rate if exchange.deployment else None
        upstream_cost = price(usage, cost_rate, tier, 0) if cost_rate else None
    now = time.perf_counter()
    deployment = exchange.deployment
    return Capture(
        request_id=exchange.request_id,
        account_id=exchange.key.account_id,
        organization_id=exchange.key.organization_id,
        key_id=exchange.key.id,
        model=exchange.route.model,
        endpoint=exchange.endpoint.path,
        outcome=ending.outcome,
        status_code=ending.status_code,
        cost=cost,
        upstream_cost=upstream_cost,
        hold=exchange.hold_nanos,
        price_version=exchange.rate.version,
        provider=deployment.provider if deployment else "",
        deployment=deployment.label if deployment else "",
        end_user=exchange.end_user,
        run_id=exchange.run_id,
        stream=exchange.job.is_stream,
        **(usage.columns() if usage is not None else {}),
        usage=measured.reported,
        estimated=measured.is_estimated,
        service_tier=tier,
        latency_ms=round((now - exchange.started_at) * 1000),
        ttft_ms=None
        if exchange.first_byte_at is None
        else round((exchange.first_byte_at - exchange.started_at) * 1000),
        upstream_request_id=exchange.upstream_request_id,
        error_code=ending.error_code,
        attempts=exchange.attempts,
        response=response,
    )


def price(usage: pricing.Usage, rate: pricing.Rate, tier: str, hold: int) -> int:
    """The cost in nano-dollars. What has no price of its own costs as the dearest kind that has, or as the hold."""
    try:
        return pricing.cost(usage, rate, tier)
    except pricing.Unpriced as error:
        log.error("usage_unpriced", model=error.model, unit=error.unit)
        known_tier = tier if rate.has_tier(tier) else "default"
        try:
            return pricing.worst_case(usage.input_tokens, usage.output_tokens, rate, known_tier) or hold
        except pricing.Unpriced:
            return hold


def tier_of(exchange: Exchange, answered: str | None) -> str:
    """The tier to price by: the answer's if it has a price, else the request's."""
    return answered if answered and exchange.rate.has_tier(answered) else exchange.job.tier
