"""Blocking and unblocking a tenant's end users. Admission refuses whoever is blocked, running streams included."""

from datetime import datetime

from django.db import models, transaction
from django.db.models.functions import Now
from django.utils import timezone

from accounts import audit
from accounts.models import Organization, User
from billing.models import EndUserBlock

MAX_END_USER = 256
MAX_REASON = 500


class BlockError(Exception):
    """Base of what this module raises."""


class InvalidBlock(BlockError):
    """A field breaks a rule: `field` names it."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def block(
    *,
    organization: Organization,
    end_user: str,
    reason: str,
    expires_at: datetime | None = None,
    by: User | None = None,
    origin: audit.Origin | None = None,
) -> EndUserBlock:
    """Refuse `end_user` from now on; one who is blocked already gets the new reason and end. Raises `InvalidBlock`."""
    if not end_user or len(end_user) > MAX_END_USER or "\0" in end_user:
        raise InvalidBlock("end_user")
    if not reason.strip() or len(reason) > MAX_REASON or "\0" in reason:
        raise InvalidBlock("reason")
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidBlock("expires_at")
    with transaction.atomic():
        made, _ = EndUserBlock.objects.update_or_create(
            organization=organization,
            end_user=end_user,
            defaults={"reason": reason.strip(), "expires_at": expires_at, "created_by": by, "created_at": Now()},
        )
        audit.record(
            action="end_user.block",
            target=organization,
            organization=organization,
            by=by,
            origin=origin,
            end_user=end_user,
            reason=reason.strip(),
            expires_at=expires_at.isoformat() if expires_at else None,
        )
    return made


def unblock(
    *, organization: Organization, end_user: str, by: User | None = None, origin: audit.Origin | None = None
) -> bool:
    """Let an end user in again; False if there was no block."""
    with transaction.atomic():
        count, _ = EndUserBlock.objects.filter(organization=organization, end_user=end_user).delete()
        if count:
            audit.record(
                action="end_user.unblock",
                target=organization,
                organization=organization,
                by=by,
                origin=origin,
                end_user=end_user,
            )
    return bool(count)


def active(organization: Organization) -> models.QuerySet[EndUserBlock]:
    """The blocks that count now."""
    return EndUserBlock.objects.filter(
        models.Q(expires_at=None) | models.Q(expires_at__gt=Now()), organization=organization
    )


def find(organization: Organization, end_user: str) -> EndUserBlock | None:
    """The block of an end user that counts now."""
    return active(organization).filter(end_user=end_user).first() if end_user else None
