"""Opening, following and ending incidents. Each change is one update of the story and one notice per subscriber."""

from datetime import timedelta

from django.db import transaction
from django.dispatch import Signal
from django.utils import timezone

from accounts.models import User
from status.judgement import Verdict
from status.models import Incident, IncidentUpdate, Maintenance, Notice, Service, Subscriber
from status.states import State

# An incident that came back so soon is the same one: that keeps a flapping service from filling the history.
REOPENED_WITHIN = timedelta(minutes=30)

# Sent in the change's transaction with `incident` and `kind`: incident.opened, incident.updated or incident.resolved.
incident_changed = Signal()

FAULTS = {"upstream": "The fault is at the provider.", "ours": "The fault is ours."}


def open_of(service: Service) -> Incident | None:
    """The incident that the watch opened for this service and that is not over."""
    return (
        service.incidents.filter(is_automatic=True, merged_into=None)
        .exclude(status=Incident.Status.RESOLVED)
        .order_by("-started_at")
        .first()
    )


@transaction.atomic
def report(service: Service, verdict: Verdict) -> Incident:
    """The service is in trouble: open an incident, reopen the last one, or say that it got worse or better."""
    state = State(verdict.state)
    story = f"{service.name}: {state.label.lower()}. {verdict.reason[:1].upper()}{verdict.reason[1:]}."
    if verdict.fault:
        story = f"{story} {FAULTS[verdict.fault]}"
    incident = open_of(service) or _recent(service)
    if incident is None:
        incident = Incident.objects.create(
            title=f"{service.name}: {state.label.lower()}",
            severity=state.severity,
            fault=verdict.fault,
            is_automatic=True,
        )
        incident.services.add(service)
        _add(incident, Incident.Status.INVESTIGATING, story, "incident.opened")
        return incident
    if incident.is_taken_over:
        return incident
    was_over = incident.status == Incident.Status.RESOLVED
    incident.severity, incident.fault = state.severity, verdict.fault or incident.fault
    incident.title = f"{service.name}: {state.label.lower()}"
    incident.resolved_at = None
    incident.save(update_fields=["severity", "fault", "title", "resolved_at"])
    status = Incident.Status.IDENTIFIED if verdict.fault else Incident.Status.INVESTIGATING
    _add(incident, status, f"It came back. {story}" if was_over else story, "incident.updated")
    return incident


@transaction.atomic
def calm(service: Service) -> None:
    """The last look was good: the incident is watched until that has lasted."""
    incident = open_of(service)
    if incident is None or incident.is_taken_over or incident.status == Incident.Status.MONITORING:
        return
    _add(incident, Incident.Status.MONITORING, f"{service.name} works again. We keep watching it.", "incident.updated")


@transaction.atomic
def end(service: Service) -> None:
    """The service has been well for long enough."""
    incident = open_of(service)
    if incident is None or incident.is_taken_over:
        return
    resolve(incident=incident, body=f"{service.name} has been working normally since.")


@transaction.atomic
def resolve(*, incident: Incident, body: str, by: User | None = None) -> bool:
    """End an incident; False if it was over already."""
    if incident.status == Incident.Status.RESOLVED:
        return False
    incident.resolved_at = timezone.now()
    incident.save(update_fields=["resolved_at"])
    _add(incident, Incident.Status.RESOLVED, body, "incident.resolved", by=by)
    return True


@transaction.atomic
def update(*, incident: Incident, status: str, body: str, by: User | None = None) -> IncidentUpdate | None:
    """Add to the story by hand; from then on the watch leaves it alone. None if `status` ended it already."""
    incident.is_taken_over = by is not None or incident.is_taken_over
    incident.save(update_fields=["is_taken_over"])
    if status == Incident.Status.RESOLVED:
        resolve(incident=incident, body=body, by=by)
        return incident.updates.last()
    if incident.status == Incident.Status.RESOLVED:
        incident.resolved_at = None
        incident.save(update_fields=["resolved_at"])
    return _add(incident, Incident.Status(status), body, "incident.updated", by=by)


@transaction.atomic
def announce(*, title: str, body: str, severity: str, services: list[Service], by: User | None) -> Incident:
    """Open an incident by hand."""
    incident = Incident.objects.create(title=title, severity=severity, is_taken_over=True)
    incident.services.set(services)
    _add(incident, Incident.Status.INVESTIGATING, body, "incident.opened", by=by)
    return incident


@transaction.atomic
def merge(*, incident: Incident, into: Incident, by: User | None) -> None:
    """`incident` was the same as `into`: its services join it and it ends. Raises ValueError for itself."""
    if incident.pk == into.pk or into.merged_into_id is not None:
        raise ValueError("an incident is merged into another one that is not merged itself")
    into.services.add(*incident.services.all())
    resolve(incident=incident, body=f"This is part of “{into.title}”, where we go on.", by=by)
    incident.merged_into = into
    incident.is_taken_over = True
    incident.save(update_fields=["merged_into", "is_taken_over"])


@transaction.atomic
def announce_maintenance(maintenance: Maintenance) -> bool:
    """Tell the subscribers, once; False if they know."""
    told = Maintenance.objects.filter(pk=maintenance.pk, announced_at=None).update(announced_at=timezone.now())
    if not told:
        return False
    Notice.objects.bulk_create(
        [Notice(subscriber=subscriber, maintenance=maintenance) for subscriber in _subscribers()], ignore_conflicts=True
    )
    return True


def _recent(service: Service) -> Incident | None:
    return (
        service.incidents.filter(is_automatic=True, merged_into=None, resolved_at__gte=timezone.now() - REOPENED_WITHIN)
        .order_by("-resolved_at")
        .first()
    )


def _add(
    incident: Incident, status: "Incident.Status", body: str, kind: str, *, by: User | None = None
) -> IncidentUpdate:
    incident.status = status
    incident.save(update_fields=["status"])
    made = IncidentUpdate.objects.create(incident=incident, status=status, body=body, by=by)
    Notice.objects.bulk_create([Notice(subscriber=subscriber, update=made) for subscriber in _subscribers()])
    incident_changed.send(sender=Incident, incident=incident, update=made, kind=kind)
    return made


def _subscribers() -> list[Subscriber]:
    return list(Subscriber.objects.exclude(confirmed_at=None).only("pk"))
