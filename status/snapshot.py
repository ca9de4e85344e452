"""What the status page shows, as one small JSON document, so that the page stands while PostgreSQL does not.

The watch writes it to the cache; each process keeps the last one that it saw. Times are ISO 8601 in UTC.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import structlog
from django.core.cache import cache
from django.db import DatabaseError
from django.utils import timezone

from status.models import Incident, Maintenance, Service, ServiceDay
from status.states import State
from status.uptime import Tally, basis_points, last_days, percent

log = structlog.get_logger(__name__)

KEY = "status:snapshot"
DAYS = 90
RECENT = timedelta(days=14)
FRESH = timedelta(seconds=60)
_NOTHING: dict[str, Any] = {
    "at": "2000-01-01T00:00:00+00:00",
    "state": 0,
    "services": [],
    "incidents": [],
    "maintenances": [],
}
_last = [_NOTHING]  # the newest snapshot that this process saw


def refresh() -> dict[str, Any]:
    """Build the snapshot from the tables and publish it. Five queries, however many services."""
    made = build(timezone.now())
    _remember(made)
    try:
        cache.set(KEY, made, timeout=None)
    except Exception as error:  # Redis away: each process still builds its own
        log.warning("status_snapshot_not_shared", error=type(error).__name__)
    return made


def current() -> dict[str, Any]:
    """The newest snapshot that can be had, with `is_stale` true when it is older than a minute.

    From the cache, else from the tables, else the last one that this process saw. Never raises.
    """
    found: dict[str, Any] | None
    try:
        found = cache.get(KEY)
    except Exception:  # Redis away
        found = None
    if found is None or _age(found) > FRESH:
        try:
            found = refresh()
        except DatabaseError as error:
            log.warning("status_snapshot_not_built", error=type(error).__name__)
            found = found or _last[0]
    _remember(found)
    return {**found, "is_stale": _age(found) > FRESH}


def build(now: datetime) -> dict[str, Any]:
    """The document of `now`, from the tables."""
    services = list(Service.objects.filter(is_public=True))
    days = _days(now.astimezone(UTC).date())
    maintenances = list(
        Maintenance.objects.filter(ends_at__gt=now).prefetch_related("services").order_by("starts_at")[:20]
    )
    in_work = {service.pk for one in maintenances if one.starts_at <= now for service in one.services.all()}
    shown = [_service(service, days.get(service.pk, {}), now, service.pk in in_work) for service in services]
    incidents = (
        Incident.objects.filter(merged_into=None, started_at__gt=now - RECENT)
        .union(Incident.objects.filter(merged_into=None, resolved_at=None))
        .order_by("-started_at")
    )
    told = [incident_of(incident) for incident in _with_story([incident.pk for incident in incidents[:50]])]
    return {
        "at": now.astimezone(UTC).isoformat(timespec="seconds"),
        "state": max((one["state_value"] for one in shown), default=0),
        "services": shown,
        "incidents": told,
        "maintenances": [
            {
                "title": one.title,
                "body": one.body,
                "starts_at": _iso(one.starts_at),
                "ends_at": _iso(one.ends_at),
                "is_running": one.starts_at <= now,
                "services": [service.name for service in one.services.all()],
            }
            for one in maintenances
        ],
    }


def incident_of(incident: Incident) -> dict[str, Any]:
    """An incident with its story, newest update first; its services and updates must be prefetched."""
    return {
        "id": incident.public_id,
        "title": incident.title,
        "status": incident.status,
        "severity": incident.severity,
        "fault": incident.fault,
        "started_at": _iso(incident.started_at),
        "resolved_at": _iso(incident.resolved_at) if incident.resolved_at else None,
        "services": [service.name for service in incident.services.all()],
        "service_slugs": [service.slug for service in incident.services.all()],
        "providers": sorted({service.provider for service in incident.services.all() if service.provider}),
        "model_prefixes": sorted({service.model_prefix for service in incident.services.all() if service.model_prefix}),
        "postmortem": incident.postmortem,
        "updates": [
            {"status": update.status, "body": update.body, "at": _iso(update.at)}
            for update in sorted(incident.updates.all(), key=lambda one: (one.at, one.pk), reverse=True)
        ],
    }


def _with_story(ids: list[int]) -> list[Incident]:
    return list(Incident.objects.filter(pk__in=ids).prefetch_related("services", "updates").order_by("-started_at"))


def _days(today: date) -> dict[int, dict[date, Tally]]:
    found: dict[int, dict[date, Tally]] = {}
    for row in ServiceDay.objects.filter(day__gt=today - timedelta(days=DAYS)):
        found.setdefault(row.service_id, {})[row.day] = Tally(
            row.operational_s, row.degraded_s, row.partial_s, row.major_s
        )
    return found


def _service(service: Service, days: dict[date, Tally], now: datetime, in_work: bool) -> dict[str, Any]:
    state = service.current
    return {
        "slug": service.slug,
        "name": service.name,
        "group": service.group,
        "description": service.description,
        "state": state.slug,
        "state_value": int(state),
        "label": _label(service, in_work),
        "in_maintenance": in_work,
        "uptime": percent(basis_points(days.values())),
        "days": [_day(day, tally) for day, tally in last_days(days, now.astimezone(UTC).date(), DAYS)],
    }


def _label(service: Service, in_work: bool) -> str:
    if in_work:
        return "Under maintenance"
    if service.observed_at is None and service.current == State.OPERATIONAL:
        return "No recent data"
    return service.current.label


def _day(day: date, tally: Tally | None) -> dict[str, Any]:
    worst = tally.worst if tally else None
    if tally is None or worst is None:
        return {"day": day.isoformat(), "state": "unknown", "uptime": None, "down_s": None}
    return {
        "day": day.isoformat(),
        "state": worst.slug,
        "uptime": percent(basis_points([tally])),
        "down_s": tally.partial + tally.major,
    }


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _age(snapshot: dict[str, Any]) -> timedelta:
    return timezone.now() - datetime.fromisoformat(snapshot["at"])


def _remember(snapshot: dict[str, Any]) -> None:
    _last[0] = snapshot
