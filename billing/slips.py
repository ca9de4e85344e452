"""What is handed to the teller, and what it hands back. Amounts are nano-dollars."""

from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID, uuid5

_RANDOM_BITS = 76  # of a UUIDv7, with its variant; above them the version, and the moment in 48 bits


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """Credit to set aside, in nano-dollars, and tokens, for the budgets. `request_id` is a UUIDv7.

    `run_cap` is the caller's own ceiling for the whole of `run_id`, 0 for none; later ones may only lower it.
    """

    request_id: UUID
    account_id: int
    organization_id: int
    key_id: int
    amount: int
    tokens: int
    model: str
    endpoint: str
    price_version: int = 0
    deployment: str = ""
    end_user: str = ""
    run_id: str = ""
    stream: bool = False
    run_cap: int = 0


@dataclass(frozen=True, slots=True)
class Granted:
    """The hold is there. `available` is what its account has left."""

    available: int
    version: int


@dataclass(frozen=True, slots=True)
class Refused:
    """No hold. `reason`: insufficient_credit, budget, key_revoked, account_frozen, user_blocked; id_taken when the
    request has ended already, no_hold when there is nothing to extend. `rule` is the budget or block that binds."""

    reason: str
    affordable: int
    rule: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer kept for an Idempotency-Key."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Capture:
    """How a request ended, what it used and what it costs. Text beyond the columns' sizes is cut."""

    request_id: UUID
    account_id: int
    organization_id: int
    key_id: int | None
    model: str = ""
    endpoint: str = ""
    outcome: str = "completed"
    status_code: int = 200
    cost: int = 0
    upstream_cost: int | None = None
    hold: int = 0
    price_version: int = 0
    provider: str = ""
    deployment: str = ""
    end_user: str = ""
    run_id: str = ""
    stream: bool = False
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    units: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] | None = None
    estimated: bool = False
    service_tier: str = ""
    latency_ms: int = 0
    ttft_ms: int | None = None
    upstream_request_id: str = ""
    error_code: str = ""
    attempts: list[Any] = field(default_factory=list)
    response: StoredResponse | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """The capture is on the disk. `recorded` is False when this request had its usage record already."""

    available: int
    version: int
    recorded: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """What is known of an Idempotency-Key; `request_id` is the request that owns it."""

    state: Literal["new", "running", "done", "mismatch", "lost"]
    request_id: UUID
    response: StoredResponse | None = None


@dataclass(frozen=True, slots=True)
class Extension:
    """More for a hold. `seq` rises with every extension of a worker: a repeated batch adds nothing again."""

    request_id: UUID
    amount: int
    tokens: int
    seq: int


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """An Idempotency-Key that a request claims; `body_sha` in hex."""

    organization_id: int
    key: str
    body_sha: str
    request_id: UUID


@dataclass(frozen=True, slots=True)
class Release:
    """A claim to forget."""

    organization_id: int
    key: str
    request_id: UUID


def rest_id(request_id: UUID) -> UUID:
    """The id of the record that charges the rest of a request that was reaped: always the same, and a UUIDv7 of the
    request's own moment, so that it lies in its month and in every span of time that the request lies in."""
    moment_and_version = request_id.int >> _RANDOM_BITS
    return UUID(int=moment_and_version << _RANDOM_BITS | uuid5(request_id, "final").int & (1 << _RANDOM_BITS) - 1)
