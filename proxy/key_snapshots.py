"""What the gateway knows of keys and their organizations, read from the tables: many keys in a handful of queries."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Self

from django.conf import settings
from django.db import close_old_connections

from accounts.models import ApiKey, Organization
from billing import ledger, price_lists, transcripts
from gallery import keeping
from proxy import own_models, upstream_keys
from proxy.gateway.snapshots import Key


@dataclass(frozen=True)
class Surroundings:
    """What other tables say of organizations, by their ids; what is not there is as by default."""

    accounts: dict[int, int]
    aliases: dict[int, dict[str, str]]
    price_lists: dict[int, str]
    visibilities: dict[int, str]  # of images, where they are kept

    @classmethod
    def of(cls, organizations: Collection[Organization]) -> Self:
        return cls(
            accounts=ledger.account_ids_of(organizations),
            aliases=own_models.aliases_among(organizations),
            price_lists=price_lists.slugs_of(organizations),
            visibilities={
                organization_id: wanted.visibility
                for organization_id, wanted in keeping.settings_among(organizations).items()
                if wanted.is_kept
            },
        )


def read(digests: Collection[str]) -> dict[str, Key | ValueError]:
    """The keys with these digests; in the place of one whose row makes no sense, the error. Runs in a thread."""
    close_old_connections()
    try:
        rows = list(ApiKey.objects.select_related("organization__transcript_settings").filter(digest__in=digests))
        around = Surroundings.of(list({row.organization_id: row.organization for row in rows}.values()))
        found: dict[str, Key | ValueError] = {}
        for row in rows:
            try:
                found[row.digest] = snapshot_of(row, around)
            except ValueError as error:
                found[row.digest] = error
        return found
    finally:
        close_old_connections()


def snapshot_of(row: ApiKey, around: Surroundings | None = None) -> Key:
    """What the gateway knows of a key; its organization is read with it."""
    organization = row.organization
    return replace(
        snapshot_of_organization(organization, key_id=row.pk, around=around),
        scopes=frozenset(row.scopes),
        allowed_models=frozenset(row.allowed_models),
        allowed_endpoints=frozenset(row.allowed_endpoints),
        allowed_networks=tuple(ip_network(network, strict=False) for network in row.allowed_ips),
        rpm=organization.default_rpm if row.rpm is None else row.rpm,
        tpm=organization.default_tpm if row.tpm is None else row.tpm,
        max_concurrent=row.max_concurrent or 0,
        expires_at=row.expires_at.timestamp() if row.expires_at else None,
        revoked_at=row.revoked_at.timestamp() if row.revoked_at else None,
        transcript_days=transcripts.days_of(organization),
        upstream_keys=upstream_keys.secrets_of(organization) if settings.IS_SELF_HOSTED else {},
    )


def snapshot_of_organization(organization: Organization, *, key_id: int, around: Surroundings | None = None) -> Key:
    """A key with no limits but the organization's own, and none of its secrets."""
    around = around or Surroundings.of([organization])
    return Key(
        id=key_id,
        organization_id=organization.pk,
        organization_slug=organization.slug,
        account_id=around.accounts[organization.pk],
        rpm=organization.default_rpm,
        tpm=organization.default_tpm,
        organization_rpm=organization.max_rpm or 0,
        organization_tpm=organization.max_tpm or 0,
        organization_max_concurrent=organization.max_concurrent or 0,
        is_active=organization.status == Organization.Status.ACTIVE,
        aliases=around.aliases.get(organization.pk, {}),
        fallback_model=organization.fallback_model,
        price_list=around.price_lists.get(organization.pk, ""),
        image_visibility=around.visibilities.get(organization.pk, ""),
    )
