"""Plans that are paid month by month: what was agreed, and how it stands as Stripe tells. Each verb may run twice.

A month is an order of its own: its invoice, once paid, credits it by `billing.purchases.pay`, and refunds and disputes
take it back as with packs. States only follow what Stripe made later than what was applied last.
"""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from accounts import audit, events
from accounts.models import Organization, User
from billing.models import Plan, Subscription


class AlreadySubscribed(Exception):
    """The organization has a plan."""


def begin(
    *, organization: Organization, plan: Plan, by: User | None, origin: audit.Origin | None = None
) -> Subscription:
    """A subscription that waits for its first payment. Raises `AlreadySubscribed`."""
    with transaction.atomic():
        Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        if current(organization) is not None:
            raise AlreadySubscribed
        made = Subscription.objects.create(
            organization=organization,
            user=by,
            plan=plan,
            currency=plan.currency,
            amount_cents=plan.price_cents,
            monthly_credits=plan.monthly_credits,
            credit_days=plan.credit_days,
        )
        audit.record(
            action="plan.order", target=organization, organization=organization, by=by, origin=origin, plan=plan.slug
        )
    return made


def current(organization: Organization) -> Subscription | None:
    """The organization's subscription that lives, with its plan."""
    rows = organization.subscriptions.filter(status__in=Subscription.LIVE, stripe_id__isnull=False)
    return rows.select_related("plan").first()


def find(public_id: object) -> Subscription | None:
    """The subscription of this public id, if it is one."""
    try:
        return Subscription.objects.filter(public_id=UUID(str(public_id))).first()
    except ValueError:
        return None


def connect(of: Subscription, *, stripe_id: str, checkout_session_id: str = "") -> None:
    """Note what Stripe calls it; the first word counts."""
    Subscription.objects.filter(pk=of.pk, stripe_id=None).update(stripe_id=stripe_id)
    if checkout_session_id:
        Subscription.objects.filter(pk=of.pk, checkout_session_id=None).update(checkout_session_id=checkout_session_id)


def note(
    of: Subscription,
    *,
    status: str,
    told_at: datetime,
    period_ends_at: datetime | None,
    cancel_at_period_end: bool,
) -> bool:
    """It stood so at `told_at`; False if something newer is known. What was canceled stays so."""
    with transaction.atomic():
        rows = Subscription.objects.select_for_update(of=("self",)).select_related("organization", "plan")
        found = rows.get(pk=of.pk)
        is_old = found.told_at is not None and told_at < found.told_at
        is_past = status == Subscription.Status.INCOMPLETE and found.status != Subscription.Status.INCOMPLETE
        if is_old or is_past or found.status == Subscription.Status.CANCELED:
            return False
        before = found.status
        found.status, found.told_at, found.period_ends_at = status, told_at, period_ends_at or found.period_ends_at
        found.cancel_at_period_end = cancel_at_period_end
        found.save()
        if status != before:
            data = {"plan": found.plan.slug, "status": status, "before": before}
            events.record(organization=found.organization, kind="plan.changed", data=data)
    return True


def abandon(of: Subscription) -> bool:
    """Its checkout came to nothing; False if it began."""
    rows = Subscription.objects.filter(pk=of.pk, status=Subscription.Status.INCOMPLETE, stripe_id=None)
    return bool(rows.update(status=Subscription.Status.CANCELED))
