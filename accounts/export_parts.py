"""What this app has of an organization, for its export. No secret, no digest, no token is in any of it."""

from collections.abc import Iterator

from django.db.models import QuerySet

from accounts.exports import Row, part
from accounts.models import Organization

CHUNK = 2_000


@part("organization")
def organization(of: Organization) -> Iterator[Row]:
    yield {
        "id": of.public_id,
        "name": of.name,
        "slug": of.slug,
        "status": of.status,
        "timezone": of.timezone,
        "created_at": of.created_at,
        "default_rpm": of.default_rpm,
        "default_tpm": of.default_tpm,
        "max_rpm": of.max_rpm,
        "max_tpm": of.max_tpm,
        "max_concurrent": of.max_concurrent,
        "fallback_model": of.fallback_model,
    }


@part("members")
def members(of: Organization) -> Iterator[Row]:
    rows = of.memberships.order_by("pk").values("user__email", "user__name", "role", "created_at")
    for row in rows.iterator(CHUNK):
        yield {name.removeprefix("user__"): value for name, value in row.items()}


@part("invitations")
def invitations(of: Organization) -> Iterator[Row]:
    yield from _rows(
        of.invitations.all(), "public_id", "email", "role", "created_at", "expires_at", "accepted_at", "revoked_at"
    )


@part("keys")
def keys(of: Organization) -> Iterator[Row]:
    """Prefix and last characters say which key it is; the key itself we do not have."""
    yield from _rows(
        of.keys.all(), "public_id", "name", "prefix", "last_four", "scopes", "allowed_models", "allowed_endpoints",
        "allowed_ips", "rpm", "tpm", "max_concurrent", "created_by__email", "created_at", "expires_at", "revoked_at",
        "last_used_at",
    )  # fmt: skip


@part("webhooks")
def webhooks(of: Organization) -> Iterator[Row]:
    yield from _rows(of.webhooks.all(), "public_id", "url", "description", "kinds", "is_enabled", "created_at")


@part("audit")
def audit(of: Organization) -> Iterator[Row]:
    yield from _rows(
        of.audit_entries.all(), "id", "created_at", "actor__email", "via", "action", "target_type", "target_id",
        "data", "ip", "user_agent",
    )  # fmt: skip


def _rows(rows: QuerySet, *fields: str) -> Iterator[Row]:
    """The fields of the rows, the oldest first; `created_by__email` is told as `created_by`."""
    for row in rows.order_by("pk").values(*fields).iterator(CHUNK):
        yield {name.removesuffix("__email"): value for name, value in row.items()}
