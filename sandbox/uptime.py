"""The demo's past as the status page tells it: days that were fine, and one bad hour of the simulated provider."""

from datetime import UTC, datetime, timedelta

from status import watch
from status.models import Incident, IncidentUpdate, Service
from status.states import State
from status.uptime import Tally

DAY_S = 24 * 60 * 60
DEGRADED_S, PARTIAL_S = 25 * 60, 14 * 60
BROKE_AGO = timedelta(days=6)
_STORY = (
    (0, Incident.Status.INVESTIGATING, "Answers of the simulated provider take long, and some requests fail."),
    (25, Incident.Status.IDENTIFIED, "The fault is at the provider. Requests that fail are not charged."),
    (39, Incident.Status.MONITORING, "It works again. We keep watching it."),
    (60, Incident.Status.RESOLVED, "It has been working normally since. (Simulated: a part of the demo's past.)"),
)


def make(*, provider: str, start: datetime, now: datetime) -> None:
    """Fill the days from `start` to yesterday; today is what the watch sees. To be called once."""
    today, broke_at = now.astimezone(UTC).date(), _broke_at(now)
    for service in Service.objects.filter(is_public=True):
        days = {start.date() + timedelta(days=back): Tally(DAY_S) for back in range((today - start.date()).days)}
        if service.provider == provider and broke_at.date() in days:
            days[broke_at.date()] = Tally(DAY_S - DEGRADED_S - PARTIAL_S, DEGRADED_S, PARTIAL_S)
            _tell(service, broke_at)
        watch.add_days(service, days)


def _broke_at(now: datetime) -> datetime:
    return (now - BROKE_AGO).astimezone(UTC).replace(hour=14, minute=10, second=0, microsecond=0)


def _tell(service: Service, at: datetime) -> None:
    """The incident as it would have been told. It is long over: nobody hears of it."""
    incident = Incident.objects.create(
        title=f"{service.name}: {State.PARTIAL_OUTAGE.label.lower()}",
        status=Incident.Status.RESOLVED,
        severity=State.PARTIAL_OUTAGE.severity,
        fault="upstream",
        started_at=at,
        resolved_at=at + timedelta(minutes=_STORY[-1][0]),
        is_automatic=True,
    )
    incident.services.add(service)
    for minutes, status, body in _STORY:
        IncidentUpdate.objects.create(incident=incident, status=status, body=body, at=at + timedelta(minutes=minutes))
