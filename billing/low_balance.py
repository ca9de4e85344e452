"""Telling an organization that its credit comes to an end: once, until it has been above the threshold again."""

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import models, transaction

from accounts import events
from accounts.models import Organization, Role
from billing.models import Account, AccountKind, BillingProfile
from billing.money import format_credits

log = structlog.get_logger(__name__)

_AVAILABLE = models.F("posted") + models.F("credit_limit") - models.F("unsettled") - models.F("held")


def set_threshold(*, organization: Organization, nanos: int | None) -> None:
    """Tell below `nanos` of available credit; None: never."""
    BillingProfile.objects.update_or_create(
        organization=organization, defaults={"low_balance_nanos": nanos, "is_low": False}
    )


def tell() -> int:
    """Write an event and a mail for each organization that fell below its threshold; returns how many."""
    told = 0
    for profile in BillingProfile.objects.filter(low_balance_nanos__isnull=False).select_related("organization"):
        available = _available(profile.organization)
        if available is None:
            continue
        is_low = available < (profile.low_balance_nanos or 0)
        if is_low == profile.is_low:
            continue
        with transaction.atomic():
            changed = BillingProfile.objects.filter(pk=profile.pk, is_low=not is_low).update(is_low=is_low)
            if changed and is_low:
                threshold = format_credits(profile.low_balance_nanos or 0)
                data = {"available": format_credits(available), "threshold": threshold}
                events.record(organization=profile.organization, kind="credits.low", data=data)
        if changed and is_low:
            told += 1
            _mail(profile.organization, available)
    return told


def _available(organization: Organization) -> int | None:
    rows = Account.objects.filter(organization=organization, kind=AccountKind.CUSTOMER)
    available: int | None = rows.annotate(free=_AVAILABLE).values_list("free", flat=True).first()
    return available


def _mail(organization: Organization, available: int) -> None:
    roles = [Role.OWNER, Role.ADMIN, Role.BILLING]
    members = organization.memberships.filter(role__in=roles, user__is_active=True)
    recipients = list(members.values_list("user__email", flat=True))
    message = EmailMessage(
        f"{organization.name}: {format_credits(max(0, available))} credits are left",
        f"{organization.name} has {format_credits(max(0, available))} credits left. Without credit, requests are "
        f"refused.\n\nTop up at {settings.SITE_URL}/o/{organization.slug}/billing/\n",
        bcc=recipients,
    )
    try:
        if recipients:
            message.send()
    except OSError as error:  # SMTP errors are OSErrors; the event is written
        log.warning("low_balance_mail_not_sent", organization_id=organization.pk, error=type(error).__name__)
