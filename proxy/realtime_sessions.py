"""Realtime sessions as the pages know them: who talks to which model, for how long, at what cost."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import models
from django.utils import timezone

from accounts import audit
from accounts.models import Organization, User
from proxy.gateway.realtime.session import Session
from proxy.models import RealtimeSession

CONTROL_GROUP = "realtime.control"
# A session whose process has not been heard of for so long is over.
LOST_AFTER = timedelta(seconds=60)
KEPT_FOR = timedelta(days=90)
_CHANGING = ["responses", "cost_nanos", "seen_at", "ended_at", "close_code", "close_reason", "deployment"]


def record(sessions: Iterable[Session]) -> None:
    """Write the state of these sessions. May run twice."""
    now = timezone.now()
    rows = [_row(session, now) for session in sessions]
    RealtimeSession.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["public_id"], update_fields=_CHANGING
    )


def open_ones(organization: Organization | None = None) -> models.QuerySet[RealtimeSession]:
    """Sessions that run now, of one organization or of all, the newest first."""
    rows = RealtimeSession.objects.filter(ended_at=None, seen_at__gt=timezone.now() - LOST_AFTER)
    if organization is not None:
        rows = rows.filter(organization=organization)
    return rows.select_related("key", "organization").order_by("-started_at")


def past_ones(organization: Organization) -> models.QuerySet[RealtimeSession]:
    """Sessions that are over, the newest first."""
    return (
        RealtimeSession.objects.filter(organization=organization)
        .exclude(ended_at=None, seen_at__gt=timezone.now() - LOST_AFTER)
        .select_related("key")
        .order_by("-started_at")
    )


def end(session: RealtimeSession, *, by: User | None, reason: str, origin: audit.Origin | None = None) -> None:
    """Ask the process that carries `session` to end it: within a second its client gets an error event and a close."""
    audit.record(
        action="realtime.end",
        target=session.organization,
        organization=session.organization,
        by=by,
        origin=origin,
        session=session.public_id.hex,
        reason=reason,
    )
    message = {"type": "realtime.end", "session": session.public_id.hex, "reason": reason}
    async_to_sync(get_channel_layer().group_send)(CONTROL_GROUP, message)


def tidy() -> int:
    """Close those whose process was lost, forget the old ones; how many were closed."""
    now = timezone.now()
    RealtimeSession.objects.filter(started_at__lt=now - KEPT_FOR).delete()
    return RealtimeSession.objects.filter(ended_at=None, seen_at__lt=now - LOST_AFTER).update(
        ended_at=models.F("seen_at"), close_reason="server lost"
    )


def _row(session: Session, now: datetime) -> RealtimeSession:
    ticket, turns, ended = session.ticket, session.turns, session.ended
    public_id: UUID = ticket.session_id
    return RealtimeSession(
        public_id=public_id,
        organization_id=ticket.key.organization_id,
        key_id=ticket.key.id,
        end_user=ticket.end_user,
        model=ticket.route.model,
        deployment=turns.deployment.label if turns.deployment is not None else "",
        responses=turns.responses,
        cost_nanos=turns.cost_nanos,
        started_at=datetime.fromtimestamp(session.started_at, UTC),
        seen_at=now,
        ended_at=now if ended is not None else None,
        close_code=ended.code if ended is not None else None,
        close_reason=(ended.reason if ended is not None else "")[:100],
    )
