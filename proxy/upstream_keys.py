"""Organizations' own keys at providers. Only where this installation is self-hosted."""

from dataclasses import dataclass

import httpx
import structlog
from django.db import models, transaction

from accounts import audit, secrets
from accounts.models import Organization, User
from proxy.gateway.own import MAX_KEY
from proxy.models import Provider, UpstreamKey

log = structlog.get_logger(__name__)

CHECK_TIMEOUT_S = 8.0


class InvalidUpstreamKey(ValueError):
    """The text cannot be a key."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a provider said to a key; `detail` is for people."""

    is_good: bool
    detail: str


def offered() -> models.QuerySet[Provider]:
    """The providers that organizations may have keys of their own for."""
    return Provider.objects.filter(is_enabled=True).exclude(kind=Provider.Kind.SANDBOX)


def store(
    *, organization: Organization, provider: Provider, key: str, by: User | None, origin: audit.Origin | None = None
) -> UpstreamKey:
    """Keep `key`, in place of one that is there. Raises `InvalidUpstreamKey`. Every worker hears of it at once."""
    key = key.strip()
    if not 8 <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidUpstreamKey
    with transaction.atomic():
        row, _ = UpstreamKey.objects.update_or_create(
            organization=organization,
            provider=provider,
            defaults={"key_encrypted": secrets.encrypt(key), "last_four": key[-4:]},
        )
        audit.record(
            action="upstream_key.store",
            target=organization,
            organization=organization,
            by=by,
            origin=origin,
            provider=provider.slug,
            last_four=key[-4:],
        )
    return row


def remove(
    *, organization: Organization, provider: Provider, by: User | None, origin: audit.Origin | None = None
) -> bool:
    """Forget the key; False if there is none."""
    with transaction.atomic():
        count, _ = UpstreamKey.objects.filter(organization=organization, provider=provider).delete()
        if count:
            audit.record(
                action="upstream_key.remove",
                target=organization,
                organization=organization,
                by=by,
                origin=origin,
                provider=provider.slug,
            )
    return bool(count)


def secrets_of(organization: Organization) -> dict[str, str]:
    """The keys by provider, for the gateway's memory; one that cannot be decrypted is left out."""
    found = {}
    for row in UpstreamKey.objects.filter(organization=organization).select_related("provider"):
        try:
            found[row.provider.slug] = secrets.decrypt(row.key_encrypted)
        except secrets.Undecryptable:
            log.error("upstream_key_undecryptable", organization_id=organization.pk, provider=row.provider.slug)
    return found


def check(provider: Provider, key: str) -> Checked:
    """Ask the provider for its models with `key`. Its address is of staff's choosing, never of the tenant's."""
    headers = {"api-key": key} if provider.kind == Provider.Kind.AZURE else {"authorization": f"Bearer {key}"}
    parameters = {"api-version": provider.api_version} if provider.api_version else {}
    try:
        answer = httpx.get(f"{provider.base_url}/models", headers=headers, params=parameters, timeout=CHECK_TIMEOUT_S)
    except httpx.HTTPError as error:
        return Checked(False, f"The provider could not be reached ({type(error).__name__}).")
    if answer.status_code in {401, 403}:
        return Checked(False, "The provider refuses this key.")
    if answer.status_code >= 400:
        return Checked(False, f"The provider answered {answer.status_code}.")
    return Checked(True, "The provider accepts this key.")
