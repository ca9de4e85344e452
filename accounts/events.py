"""What happened to an organization, as its webhooks and its event feed tell it: an outbox, one row an event."""

from collections.abc import Iterable
from typing import Any

from accounts.models import Event, Organization


def record(*, organization: Organization, kind: str, data: dict[str, Any]) -> Event:
    """Write one event; `kind` is `noun.verb`, `data` is JSON without secrets. Call it in the change's transaction.

    Money in `data` is credits as decimal strings.
    """
    return Event.objects.create(organization=organization, kind=kind, data=data)


def record_for_all(*, organization_ids: Iterable[int], kind: str, data: dict[str, Any]) -> None:
    """The same event for many organizations, in one statement per thousand."""
    rows = [Event(organization_id=pk, kind=kind, data=data) for pk in organization_ids]
    Event.objects.bulk_create(rows, batch_size=1_000)
