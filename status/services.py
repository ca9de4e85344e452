"""The services that stand for providers. Those of every installation are made by migration 0002."""

from collections.abc import Iterable

from django.db import transaction

from status.models import Service

GROUP = "Model providers"


@transaction.atomic
def keep_providers(providers: Iterable[tuple[str, str, bool]]) -> None:
    """One service for each (slug, name, is_enabled); that of a disabled or deleted one is hidden. May run twice.

    What staff wrote (name, group, position) stays.
    """
    known = {service.provider: service for service in Service.objects.exclude(provider="")}
    for slug, name, is_enabled in providers:
        service = known.pop(slug, None)
        if service is None:
            if is_enabled:
                Service.objects.create(
                    slug=f"provider-{slug}"[:60],
                    name=name[:80],
                    description=f"Models served by {name}"[:200],
                    group=GROUP,
                    position=200,
                    provider=slug,
                )
        elif service.is_public != is_enabled:
            Service.objects.filter(pk=service.pk).update(is_public=is_enabled)
    Service.objects.filter(pk__in=[service.pk for service in known.values() if service.group == GROUP]).update(
        is_public=False
    )
