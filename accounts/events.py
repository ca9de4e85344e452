"""What happened to an organization, as its webhooks and its event feed tell it: an outbox, one row an event."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import Event, Organization

# What can be subscribed to.
KINDS = {
    "usage.recorded": "Requests were charged; every some seconds, all of them in one event",
    "credits.low": "The credit fell below the alert's threshold",
    "credits.purchased": "Credit was bought",
    "budget.warning": "A budget is used to 80 or 95 per cent",
    "budget.exceeded": "A budget is used up",
    "key.created": "An API key was made",
    "key.revoked": "An API key ended, or was given an end",
    "incident.opened": "An incident touches what the organization uses",
    "incident.updated": "There is news of it",
    "incident.resolved": "It is over",
}
# Made by the test button for one webhook; not in the feed.
TEST = "webhook.test"
KEPT_FOR = timedelta(days=30)
_FORGET = 10_000

# The oldest transaction that still runs, but for those that are known to run in another database of the cluster.
_HORIZON = """
WITH s AS (SELECT pg_current_snapshot() AS now),
running AS (SELECT x::text::bigint AS id FROM s, pg_snapshot_xip(s.now) x),
elsewhere AS (
    SELECT l.transactionid::text::bigint AS id FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted
      AND a.datname <> current_database())
SELECT coalesce(
        (SELECT min(r.id) FROM running r WHERE (r.id & 4294967295) NOT IN (SELECT e.id FROM elsewhere e)),
        pg_snapshot_xmax(s.now)::text::bigint),
    pg_snapshot_xmax(s.now)::text::bigint
FROM s
"""


class InvalidCursor(ValueError):
    """Not a cursor that the feed gave."""


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A place in the order in which events became visible."""

    transaction: int = 0
    event: int = 0

    def __str__(self) -> str:
        return f"{self.transaction}-{self.event}"

    @classmethod
    def read(cls, text: str) -> "Cursor":
        """Raises `InvalidCursor`."""
        parts = text.split("-")
        if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
            raise InvalidCursor(text)
        return cls(int(parts[0]), int(parts[1]))

    @classmethod
    def of(cls, event: Event) -> "Cursor":
        return cls(event.transaction, event.pk)


def record(*, organization: Organization, kind: str, data: dict[str, Any]) -> Event:
    """Write one event; `kind` is `noun.verb`, `data` is JSON without secrets. Call it in the change's transaction.

    Money in `data` is credits as decimal strings.
    """
    return Event.objects.create(organization=organization, kind=kind, data=data)


def record_for_all(*, organization_ids: Iterable[int], kind: str, data: dict[str, Any]) -> None:
    """The same event for many organizations, in one statement per thousand."""
    rows = [Event(organization_id=pk, kind=kind, data=data) for pk in organization_ids]
    Event.objects.bulk_create(rows, batch_size=1_000)


def since(cursor: Cursor, *, limit: int, organization: Organization | None = None) -> list[Event]:
    """Up to `limit` events after `cursor`, in the order of the feed, of all organizations or of one.

    None that appears later can come before them: the feed goes only as far as every transaction has ended.
    """
    ended, next_one = _horizon()
    if cursor.transaction > next_one:  # of a database that this one was restored from
        cursor = Cursor(0, cursor.event)
    rows: QuerySet[Event] = Event.objects.exclude(kind=TEST).filter(transaction__lt=ended)
    if organization is not None:
        rows = rows.filter(organization=organization)
    rows = rows.extra(  # a comparison of rows is one range of the index
        where=["(accounts_event.transaction, accounts_event.id) > (%s, %s)"],
        params=[cursor.transaction, cursor.event],
    )
    return list(rows.order_by("transaction", "pk")[:limit])


def restamp() -> int:
    """Put events with transactions of another database before all of this one's; returns how many.

    A dump brings the numbers of the database that it was made of, while a new one counts from the beginning.
    """
    _, next_one = _horizon()
    return Event.objects.filter(transaction__gt=next_one).update(transaction=0)


def message_id(event: Event) -> str:
    """The same for every delivery of an event: receivers tell repeats by it."""
    return f"msg_{event.public_id.hex}"


def as_dict(event: Event, organization: Organization) -> dict[str, Any]:
    """An event as it is sent and listed."""
    return {
        "id": message_id(event),
        "type": event.kind,
        "timestamp": event.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "organization": organization.slug,
        "data": event.data,
    }


def body_of(event: Event, organization: Organization) -> bytes:
    """What is sent and signed."""
    return json.dumps(as_dict(event, organization), ensure_ascii=False, separators=(",", ":")).encode()


def _horizon() -> tuple[int, int]:
    """(before it every transaction that may have written here has ended, the next one to begin)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # within a transaction it would show what was
        cursor.execute(_HORIZON)
        ended, next_one = cursor.fetchone()
    return ended, next_one


def forget_old() -> int:
    """Delete events, with their deliveries, once they are old; returns how many rows."""
    before = timezone.now() - KEPT_FOR
    gone = 0
    while True:
        ids = list(Event.objects.filter(created_at__lt=before).order_by("pk").values_list("pk", flat=True)[:_FORGET])
        if not ids:
            return gone
        gone += Event.objects.filter(pk__in=ids).delete()[0]
