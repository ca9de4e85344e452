"""Deleting an organization: keys stop at once, an export is made, and until the grace period ends it can be restored.

Then everything goes but its books: transfers, usage records and the audit log stay, without a name.
"""

from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.dispatch import Signal
from django.urls import reverse
from django.utils import timezone

from accounts import audit, exports, letters
from accounts.errors import AccountsError
from accounts.models import Organization, Role, User

log = structlog.get_logger(__name__)

# Sent with `organization`, in the transaction that deletes it: other apps delete what they have of it.
organization_deleted = Signal()


class NotPossible(AccountsError):
    """The organization is not in the state that this needs."""


def grace() -> timedelta:
    """How long a deleted organization can be restored."""
    return timedelta(days=settings.ORGANIZATION_GRACE_DAYS)


def close(*, organization: Organization, by: User, origin: audit.Origin | None = None) -> None:
    """Begin to delete: keys are refused from now on. Raises `NotPossible` unless it is active."""
    with transaction.atomic():
        deletes_at = timezone.now() + grace()
        changed = Organization.objects.filter(pk=organization.pk, status=Organization.Status.ACTIVE).update(
            status=Organization.Status.CLOSING, deletes_at=deletes_at
        )
        if not changed:
            raise NotPossible
        audit.record(
            action="organization.close", target=organization, organization=organization, by=by, origin=origin,
            deletes_at=deletes_at.isoformat(),
        )  # fmt: skip
        organization.refresh_from_db()
        exports.ensure_recent(organization=organization, by=by, origin=origin)
    _mail(organization)


def restore(*, organization: Organization, by: User, origin: audit.Origin | None = None) -> None:
    """Stop the deletion; keys work again. Raises `NotPossible` for one that is not being deleted."""
    with transaction.atomic():
        changed = Organization.objects.filter(pk=organization.pk, status=Organization.Status.CLOSING).update(
            status=Organization.Status.ACTIVE, deletes_at=None
        )
        if not changed:
            raise NotPossible
        audit.record(
            action="organization.restore", target=organization, organization=organization, by=by, origin=origin
        )
    organization.refresh_from_db()


def delete_due() -> int:
    """Delete the organizations whose grace period is over; returns how many. May run twice at a time."""
    deleted = 0
    due = Organization.objects.filter(status=Organization.Status.CLOSING, deletes_at__lte=timezone.now())
    for pk in list(due.values_list("pk", flat=True)):
        with transaction.atomic():
            found = due.select_for_update(skip_locked=True).filter(pk=pk).first()
            if found is not None:
                _delete(found)
                deleted += 1
    return deleted


def _delete(organization: Organization) -> None:
    """Everything but the books; the name and the slug go too."""
    organization.keys.live().update(revoked_at=timezone.now())
    exports.remove_all(organization)
    for rows in (organization.invitations, organization.webhooks, organization.events, organization.memberships):
        rows.all().delete()
    organization_deleted.send(sender=Organization, organization=organization)
    audit.record(action="organization.delete", target=organization, organization=organization, by=None)
    organization.name, organization.slug = "Deleted organization", f"deleted-{organization.public_id.hex[:20]}"
    organization.status, organization.deletes_at = Organization.Status.DELETED, None
    organization.save(update_fields=["name", "slug", "status", "deletes_at"])
    log.info("organization_deleted", organization_id=organization.pk)


def _mail(organization: Organization) -> None:
    """Tell the owner and the admins: whoever did it, they can stop it."""
    url = settings.SITE_URL + reverse("accounts:organization-settings", args=[organization.slug])
    letters.send(
        organization,
        roles=[Role.OWNER, Role.ADMIN],
        subject=f"{organization.name} will be deleted on {organization.deletes_at:%Y-%m-%d}",
        text=f"{organization.name} will be deleted on {organization.deletes_at:%Y-%m-%d at %H:%M} UTC. Its keys are "
        f"refused from now on. Until then its owner can restore it, and download what it has here:\n\n{url}\n",
        failure="closing_mail_not_sent",
    )
