"""Telling an organization that its credit comes to an end: once, until it has been above the threshold again."""

from django.db import models, transaction

from accounts import events
from accounts.models import Organization
from billing import letters
from billing.models import Account, AccountKind, BillingProfile
from billing.money import format_credits

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
            left = format_credits(max(0, available))
            letters.send(
                profile.organization,
                f"{profile.organization.name}: {left} credits are left",
                f"{profile.organization.name} has {left} credits left. Without credit, requests are refused.",
            )
    return told


def _available(organization: Organization) -> int | None:
    rows = Account.objects.filter(organization=organization, kind=AccountKind.CUSTOMER)
    available: int | None = rows.annotate(free=_AVAILABLE).values_list("free", flat=True).first()
    return available
