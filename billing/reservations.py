"""Usage of models that are called elsewhere: reserved before, committed after, or recorded at once.

One row through the functions that the teller calls, so by the same rules: credit, budgets, blocks. A reservation is a
hold without a worker; nobody keeps it alive, so the reaper ends it for nothing once it is `lifetime()` old.
"""

import base64
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.db import connection
from uuid_utils.compat import uuid7

from billing.lanes import encode
from billing.models import Hold, UsageRecord
from billing.slips import Capture, ClaimRequest, Granted, HoldRequest, Refused, Release, Settled, StoredResponse

# The worker of every reservation: none has this id, so their age alone decides.
NOBODY = UUID("00000000-0000-7000-8000-000000000001")
EXPIRED = "worker_lost"


class ReservationError(Exception):
    """Base of what this module raises."""


class NoSuchReservation(ReservationError):
    """The organization has no reservation with this id."""


class AlreadyEnded(ReservationError):
    """The reservation was committed, cancelled or has expired: `record` says which."""

    def __init__(self, record: UsageRecord) -> None:
        super().__init__(str(record.request_id))
        self.record = record

    @property
    def has_expired(self) -> bool:
        return self.record.error_code == EXPIRED


@dataclass(frozen=True, slots=True)
class Claimed:
    """What is known of an Idempotency-Key; `body` is the answer of the request that used it first."""

    state: str
    body: bytes | None = None


def new_id() -> UUID:
    """The id of a reservation or record to be: a UUIDv7."""
    return uuid7()


def lifetime() -> timedelta:
    """How long a reservation waits to be committed."""
    return timedelta(seconds=settings.REAPER_WORKER_TIMEOUT_S)


def reserve(request: HoldRequest) -> Granted | Refused:
    """Set credit, and room in the budgets, aside. May be repeated with the same id."""
    reason, affordable, rule, available, version = _call("billing_admit(%s::json, %s)", request, NOBODY)
    return Refused(reason, affordable, rule) if reason else Granted(available, version)


def find(organization_id: int, reservation_id: UUID) -> Hold:
    """The open reservation of this id. Raises `NoSuchReservation` or `AlreadyEnded`."""
    hold = Hold.objects.filter(pk=reservation_id, organization_id=organization_id, worker=NOBODY).first()
    if hold is not None:
        return hold
    record = UsageRecord.objects.filter(pk=reservation_id, organization_id=organization_id).first()
    if record is None:
        raise NoSuchReservation(str(reservation_id))
    raise AlreadyEnded(record)


def expires_at(hold: Hold) -> datetime:
    return hold.created_at + lifetime()


def settle(capture: Capture) -> Settled:
    """Charge a reservation, or usage that had none, and end the reservation. May be repeated: only the first counts."""
    available, version, recorded, _ = _call("billing_settle(%s::json)", capture)
    return Settled(available, version, recorded)


def begin_end_user(organization_id: int, end_user: str) -> None:
    """Begin the default budgets of an end user seen for the first time, as admission does."""
    if not end_user:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT billing_begin_end_users(ARRAY[%s::bigint], ARRAY[left(%s, 256)], clock_timestamp())",
            [organization_id, end_user],
        )


def claim(*, organization_id: int, key: str, body_sha: bytes, request_id: UUID) -> Claimed:
    """Claim an Idempotency-Key for a record: `new`, or what became of the one that has it."""
    request = ClaimRequest(organization_id, key, body_sha.hex(), request_id)
    state, _, response = _call("billing_claim(%s::json, %s)", request, NOBODY)
    return Claimed(state, base64.b64decode(orjson.loads(response)["body"]) if response else None)


def release(*, organization_id: int, key: str, request_id: UUID) -> None:
    """Forget a claim of what came to nothing."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT billing_release(%s::json)", [encode([Release(organization_id, key, request_id)]).decode()]
        )


def stored(body: bytes) -> StoredResponse:
    """An answer to keep with the record."""
    return StoredResponse(200, [("content-type", "application/json")], body)


def _call(function: str, row: Any, *parameters: Any) -> list[Any]:
    """The answer to the one row that is sent."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}", [encode([row]).decode(), *parameters])
        (answers,) = cursor.fetchone()
    found: list[Any] = answers[0]
    return found
