"""The services that stand for providers and payments. Those of every installation are made by migrations."""

from collections.abc import Iterable

from django.db import transaction

from status.models import Check, Service

GROUP = "Model providers"
PAYMENTS = "payments"


@transaction.atomic
def keep_providers(providers: Iterable[tuple[str, str, bool, str]]) -> None:
    """One service for each (slug, name, is_enabled, address); that of a disabled or deleted one is hidden.

    With an address the service begins with a check of it. May run twice; what staff changed stays.
    """
    known = {service.provider: service for service in Service.objects.exclude(provider="")}
    for slug, name, is_enabled, address in providers:
        service = known.pop(slug, None)
        if service is None:
            if is_enabled:
                made = Service.objects.create(
                    slug=f"provider-{slug}"[:60],
                    name=name[:80],
                    description=f"Models served by {name}"[:200],
                    group=GROUP,
                    position=200,
                    provider=slug,
                )
                if address:
                    Check.objects.create(
                        service=made, kind=Check.Kind.HTTP, target=address[:300], interval_s=30, is_upstream=True
                    )
        elif service.is_public != is_enabled:
            Service.objects.filter(pk=service.pk).update(is_public=is_enabled)
    Service.objects.filter(pk__in=[service.pk for service in known.values() if service.group == GROUP]).update(
        is_public=False
    )


@transaction.atomic
def keep_payments(address: str) -> None:
    """A service for payments where credit is sold: `address` is asked whether its provider lives; empty: hidden.

    May run twice; what staff changed stays.
    """
    found = Service.objects.filter(slug=PAYMENTS).first()
    if found is None and address:
        made = Service.objects.create(
            slug=PAYMENTS, name="Payments", description="Buying credit", group="Platform", position=50
        )
        Check.objects.create(service=made, kind=Check.Kind.HTTP, target=address[:300], interval_s=60, is_upstream=True)
    elif found is not None and found.is_public != bool(address):
        Service.objects.filter(pk=found.pk).update(is_public=bool(address))
