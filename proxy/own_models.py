"""An organization's own names for models, and the model that it falls back to."""

from collections.abc import Collection

from django.db import transaction

from accounts import audit
from accounts.models import Organization, User
from proxy.models import Model, OrganizationAlias

MAX_ALIASES = 100


class InvalidAlias(ValueError):
    """The name cannot be one: empty, too long, with spaces, or one too many."""


def set_alias(
    *, organization: Organization, name: str, model: Model, by: User | None, origin: audit.Origin | None = None
) -> OrganizationAlias:
    """Let `name` mean `model` in this organization's requests; one that is there is changed. Raises `InvalidAlias`."""
    if not name or len(name) > 200 or any(character.isspace() or not character.isprintable() for character in name):
        raise InvalidAlias
    with transaction.atomic():
        others = organization.model_aliases.exclude(name=name)
        if others.count() >= MAX_ALIASES:
            raise InvalidAlias
        alias, _ = OrganizationAlias.objects.update_or_create(
            organization=organization, name=name, defaults={"model": model}
        )
        audit.record(
            action="model_alias.set",
            target=organization,
            organization=organization,
            by=by,
            origin=origin,
            name=name,
            model=model.name,
        )
    return alias


def remove_alias(*, organization: Organization, name: str, by: User | None, origin: audit.Origin | None = None) -> bool:
    """Forget a name; False if there is none."""
    with transaction.atomic():
        count, _ = OrganizationAlias.objects.filter(organization=organization, name=name).delete()
        if count:
            audit.record(
                action="model_alias.remove",
                target=organization,
                organization=organization,
                by=by,
                origin=origin,
                name=name,
            )
    return bool(count)


def set_fallback(
    *, organization: Organization, model: Model | None, by: User | None, origin: audit.Origin | None = None
) -> None:
    """The model that serves a request when no deployment of the one it asked for does; None: it fails."""
    name = model.name if model else ""
    with transaction.atomic():
        organization.fallback_model = name
        organization.save(update_fields=["fallback_model"])
        audit.record(
            action="organization.set_fallback_model",
            target=organization,
            organization=organization,
            by=by,
            origin=origin,
            model=name,
        )


def aliases_of(organization: Organization) -> dict[str, str]:
    """The model's public name by the organization's own."""
    return aliases_among([organization]).get(organization.pk, {})


def aliases_among(organizations: Collection[Organization]) -> dict[int, dict[str, str]]:
    """The same of several, by their ids; those that have none are left out."""
    found: dict[int, dict[str, str]] = {}
    rows = OrganizationAlias.objects.filter(organization__in=organizations).order_by("name")
    for organization_id, name, model in rows.values_list("organization_id", "name", "model__name"):
        found.setdefault(organization_id, {})[name] = model
    return found
