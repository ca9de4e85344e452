"""What the status page needs of providers and usage, and what the console needs of incidents."""

from datetime import timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django.dispatch import receiver
from django.utils import timezone

from accounts import events
from accounts.models import Organization
from billing import stripe_api
from billing.models import UsageRollup
from proxy.models import Deployment, Provider
from status import services, snapshot
from status.incidents import incident_changed
from status.models import Incident, IncidentUpdate

USED_WITHIN = timedelta(days=7)


def keep_services() -> None:
    """One service of the status page for each provider, and one for payments where credit is sold.

    Servers of the operator's own, and the payment provider, are asked whether they live. May run twice.
    """
    services.keep_payments(stripe_api.address() if stripe_api.is_on() else "")
    services.keep_providers(
        (
            provider.slug,
            provider.name or provider.slug,
            provider.is_enabled,
            f"{provider.base_url}/models" if provider.kind == Provider.Kind.OPENAI_COMPATIBLE else "",
        )
        for provider in Provider.objects.all()
    )


def incidents_for(organization: Organization) -> list[dict[str, Any]]:
    """The open incidents that touch what `organization` used lately; no query while there is none."""
    found = [one for one in snapshot.current()["incidents"] if one["status"] != Incident.Status.RESOLVED]
    return [
        one
        for one in found
        if is_platform(one) or _used(one["providers"], one["model_prefixes"]).filter(organization=organization).exists()
    ]


def is_platform(incident: dict[str, Any]) -> bool:
    """Whether it concerns everybody: a part of this installation, not one provider or family of models."""
    return not incident["providers"] and not incident["model_prefixes"]


@receiver(incident_changed)
def tell_organizations(*, incident: Incident, update: IncidentUpdate, kind: str, **_: Any) -> None:
    """Write the event of an incident for each organization that used what is broken."""
    concerned = list(incident.services.all())
    providers = [service.provider for service in concerned if service.provider]
    prefixes = [service.model_prefix for service in concerned if service.model_prefix]
    if providers or prefixes:
        ids = _used(providers, prefixes).values_list("organization_id", flat=True).distinct()
    else:
        ids = Organization.objects.filter(status=Organization.Status.ACTIVE).values_list("pk", flat=True)
    data = {
        "incident": incident.public_id,
        "title": incident.title,
        "status": incident.status,
        "severity": incident.severity,
        "services": [service.name for service in concerned],
        "update": update.body,
    }
    events.record_for_all(organization_ids=ids, kind=kind, data=data)


def _used(providers: list[str], prefixes: list[str]) -> QuerySet[UsageRollup]:
    """The hours of the last week in which a model of these was used."""
    names = Deployment.objects.filter(provider__slug__in=providers).values_list("model__name", flat=True)
    concerned = Q(model__in=set(names)) if providers else Q(pk=None)
    for prefix in prefixes:
        concerned |= Q(model__startswith=prefix)
    return UsageRollup.objects.filter(concerned, hour__gte=timezone.now() - USED_WITHIN)
