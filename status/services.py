"""The services that stand for providers. Those of every installation are made by migration 0002."""

from collections.abc import Iterable

from django.db import transaction

from status.models import Check, Service

GROUP = "Model providers"


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
