"""Goodwill after an incident: which organizations it hit, and a grant for each of them."""

from dataclasses import dataclass

from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone

from accounts import audit
from accounts.models import Organization, User
from billing import ledger
from billing.models import UsageRecord
from billing.money import format_credits
from billing.usage import first_id_at
from proxy.gateway.pulse import UPSTREAM_FAILURES
from status.models import Incident

MAX_ORGANIZATIONS = 10_000


@dataclass(frozen=True, slots=True)
class Hit:
    """An organization and how many of its requests failed during the incident."""

    organization: Organization
    failures: int


def hit_by(incident: Incident) -> list[Hit]:
    """The organizations whose requests to the incident's services failed while it lasted, most failures first."""
    concerned = Q(pk=None)
    for service in incident.services.all():
        if service.provider:
            concerned |= Q(provider=service.provider)
        elif service.model_prefix:
            concerned |= Q(model__startswith=service.model_prefix)
        else:
            concerned |= Q(outcome__in=UPSTREAM_FAILURES)
    rows = (
        UsageRecord.objects.filter(
            concerned,
            outcome__in=UPSTREAM_FAILURES,
            request_id__gte=first_id_at(incident.started_at),
            request_id__lt=first_id_at(incident.resolved_at or timezone.now()),
        )
        .values("organization")
        .annotate(failures=Count("pk"))
        .order_by("-failures")[:MAX_ORGANIZATIONS]
    )
    failures = {row["organization"]: row["failures"] for row in rows}
    return [Hit(found, failures[pk]) for pk, found in Organization.objects.in_bulk(list(failures)).items()]


def grant(*, incident: Incident, amount: int, by: User) -> int:
    """Give each organization that was hit `amount` nano-dollars, once per incident; returns to how many."""
    hits = hit_by(incident)
    for hit in hits:
        with transaction.atomic():
            ledger.grant(
                organization=hit.organization,
                amount=amount,
                reason=f"Goodwill: {incident.title}",
                idempotency_key=f"goodwill:{incident.public_id}:{hit.organization.pk}",
                by=by,
            )
            audit.record(
                action="credits.goodwill",
                target=hit.organization,
                organization=hit.organization,
                by=by,
                incident=incident.public_id,
                credits=format_credits(amount),
            )
    return len(hits)
