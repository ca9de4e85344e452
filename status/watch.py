"""The watch: looks at every service, keeps its state and its days, and lets incidents open and end by themselves.

A state gets worse only when two looks in a row say so, and better only after some minutes of calm: a blip opens
nothing, and a flapping service does not open and close all day.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from status import incidents, judgement, probing
from status.judgement import Verdict
from status.models import Check, Maintenance, Service, ServiceDay
from status.states import State
from status.traffic import Traffic
from status.uptime import Observation, Tally, tally

log = structlog.get_logger(__name__)

_LOCK = 0x7470_7374  # of one watch at a time, whichever worker runs it


@transaction.atomic
def look(now: datetime | None = None) -> bool:
    """Look at every service once; False when another look is under way. Meant for every 15 s."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return False
    now = now or timezone.now()
    traffic = Traffic(now)
    checks: dict[int, list[Check]] = {}
    for check in Check.objects.filter(is_enabled=True):
        checks.setdefault(check.service_id, []).append(check)
    in_work = set(Maintenance.objects.filter(starts_at__lte=now, ends_at__gt=now).values_list("services", flat=True))
    for service in Service.objects.select_for_update():
        verdicts = _verdicts(service, traffic, checks.get(service.pk, []))
        _tally(service, now)
        _follow(service, judgement.worst(verdicts), now, opens_incidents=service.pk not in in_work)
        service.observed_at = now if verdicts or service.forced_state is not None else None
        service.save(update_fields=["state", "reason", "fault", "suspected_state", "observed_at", "calm_since"])
    return True


def _verdicts(service: Service, traffic: Traffic, checks: list[Check]) -> list[Verdict]:
    """What its traffic and each of its checks say; nothing when neither has anything to say."""
    window, baseline = traffic.window(service), traffic.baseline(service)
    verdicts = [judgement.of_traffic(window, baseline)] if window.requests or baseline.requests else []
    for check in checks:
        if check.checked_at is None or not probing.is_configured(check):
            continue
        verdicts.append(
            judgement.of_probe(
                failures=check.failures,
                error=check.error,
                latency_ms=check.latency_ms,
                slow_ms=check.slow_ms,
                fault="upstream" if check.is_upstream else "ours",
            )
        )
    return verdicts


def _tally(service: Service, now: datetime) -> None:
    """Add the time since the last look, which the state of that look speaks for, to the days that it fell on."""
    if service.observed_at is not None:
        add_days(service, tally([Observation(service.observed_at, service.current)], now))


def add_days(service: Service, tallies: Mapping[date, Tally]) -> None:
    """Add seconds in each state to the days of a service."""
    for day, seconds in tallies.items():
        ServiceDay.objects.get_or_create(service=service, day=day)
        ServiceDay.objects.filter(service=service, day=day).update(
            operational_s=F("operational_s") + seconds.operational,
            degraded_s=F("degraded_s") + seconds.degraded,
            partial_s=F("partial_s") + seconds.partial,
            major_s=F("major_s") + seconds.major,
        )


def _follow(service: Service, verdict: Verdict, now: datetime, *, opens_incidents: bool) -> None:
    """Let the service's state and its incident follow what was seen."""
    state = State(service.state)
    confirmed = min(State(service.suspected_state), verdict.state)
    service.suspected_state = verdict.state
    if confirmed > state:
        service.state, service.reason, service.fault = confirmed, verdict.reason[:300], verdict.fault
        service.calm_since = None
        log.warning("service_state", service=service.slug, state=State(service.state).slug, reason=verdict.reason)
        if opens_incidents:
            incidents.report(service, Verdict(confirmed, verdict.reason, verdict.fault))
    elif verdict.state >= state:
        service.calm_since = None
        if state > State.OPERATIONAL and opens_incidents and incidents.open_of(service) is None:
            incidents.report(service, verdict)
    else:
        service.calm_since = service.calm_since or now
        if verdict.state == State.OPERATIONAL:
            incidents.calm(service)
        if now - service.calm_since >= timedelta(seconds=settings.STATUS_CALM_S):
            _improve(service, verdict, opens_incidents=opens_incidents)


def _improve(service: Service, verdict: Verdict, *, opens_incidents: bool) -> None:
    service.state, service.reason, service.fault = verdict.state, verdict.reason[:300], verdict.fault
    service.calm_since = None
    log.info("service_state", service=service.slug, state=State(service.state).slug, reason=verdict.reason)
    if verdict.state == State.OPERATIONAL:
        incidents.end(service)
    elif opens_incidents:
        incidents.report(service, verdict)
