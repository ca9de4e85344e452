"""What happened to an organization, as its webhooks and its event feed tell it: an outbox, one row an event."""

from typing import Any

from accounts.models import Event, Organization


def record(*, organization: Organization, kind: str, data: dict[str, Any]) -> Event:
    """Write one event; `kind` is `noun.verb`, `data` is JSON without secrets. Call it in the change's transaction.

    Money in `data` is credits as decimal strings.
    """
    return Event.objects.create(organization=organization, kind=kind, data=data)
