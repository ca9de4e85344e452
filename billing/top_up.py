"""Buying a pack by itself, with the saved card, when credit comes to its end.

One automatic order of an organization is open at a time, and its payment carries the order's id, so a run that was cut
off goes on with the same payment. A declined card switches the rule off and tells the people who pay.
"""

from datetime import timedelta

import structlog
from django.db import models, transaction
from django.utils import timezone

from accounts import audit, events
from accounts.models import Organization, User
from billing import ledger, letters, purchases, stripe_api, stripe_events
from billing.models import BillingProfile, Order, Pack
from billing.money import format_credits

log = structlog.get_logger(__name__)

# Stripe forgets idempotency keys after a day; what was charged by then has been heard of, by its event or the sweep.
RETRIED = timedelta(hours=20)


class NoCard(Exception):
    """There is no saved card to pay with."""


class CapTooLow(Exception):
    """The monthly cap does not pay for the pack once."""


def set_rule(
    *,
    organization: Organization,
    pack: Pack,
    below_nanos: int,
    cap_cents: int,
    by: User | None,
    origin: audit.Origin | None = None,
) -> None:
    """Buy `pack` below so much available credit, up to `cap_cents` in a month.

    Raises `NoCard`, `CapTooLow`, or `StripeUnavailable`.
    """
    if cap_cents < pack.price_cents:
        raise CapTooLow
    if stripe_api.saved_card(organization) is None:
        raise NoCard
    rule = {"top_up_pack": pack, "top_up_below_nanos": below_nanos, "top_up_cap_cents": cap_cents}
    with transaction.atomic():
        BillingProfile.objects.update_or_create(organization=organization, defaults={**rule, "top_up_problem": ""})
        audit.record(
            action="top_up.set",
            target=organization,
            organization=organization,
            by=by,
            origin=origin,
            pack=pack.slug,
            below_credits=format_credits(below_nanos),
            cap_cents=cap_cents,
        )


def stop(
    *, organization: Organization, by: User | None = None, origin: audit.Origin | None = None, problem: str = ""
) -> bool:
    """Buy nothing by itself any more; False if it did not."""
    with transaction.atomic():
        rows = BillingProfile.objects.filter(organization=organization, top_up_pack__isnull=False)
        stopped = rows.update(top_up_pack=None, top_up_problem=problem)
        if stopped:
            audit.record(
                action="top_up.stop", target=organization, organization=organization, by=by, origin=origin, why=problem
            )
    return bool(stopped)


def run() -> int:
    """Buy for every organization whose rule says so; returns how many bought. May run twice."""
    bought = 0
    for profile in BillingProfile.objects.filter(top_up_pack__isnull=False).select_related("organization"):
        order = _due(profile)
        if order is not None:
            bought += _pay(order)
    return bought


def spent_this_month(organization: Organization) -> int:
    """Cents of automatic orders that were paid, or may be, in this calendar month (UTC)."""
    first = timezone.now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    orders = organization.orders.filter(is_automatic=True, created_at__gte=first)
    counted = orders.filter(status__in=[Order.Status.PAID, Order.Status.OPEN])
    total: int | None = counted.aggregate(total=models.Sum("amount_cents"))["total"]
    return total or 0


def _due(profile: BillingProfile) -> Order | None:
    """The order to be paid now: the one that is open, or a new one where credit is low and the cap allows it."""
    with transaction.atomic():
        rule = BillingProfile.objects.select_for_update(of=("self",)).select_related("organization", "top_up_pack")
        found = rule.get(pk=profile.pk)
        organization, pack = found.organization, found.top_up_pack
        is_active = organization.status == Organization.Status.ACTIVE
        if pack is None or not pack.is_active or not is_active:
            return None
        running = organization.orders.filter(is_automatic=True, status=Order.Status.OPEN).first()
        if running is not None and running.created_at > timezone.now() - RETRIED:
            return running
        if running is not None:
            purchases.close(running, Order.Status.EXPIRED)
        if ledger.balance_of(organization).available >= found.top_up_below_nanos:
            return None
        if spent_this_month(organization) + pack.price_cents > found.top_up_cap_cents:
            return None
        return purchases.order(organization=organization, pack=pack, by=None, is_automatic=True)


def _pay(order: Order) -> bool:
    """Pay an automatic order; False if nothing was bought now."""
    try:
        card = stripe_api.saved_card(order.organization)
        if card is None:
            raise stripe_api.CardDeclined("There is no saved card any more.")
        payment = stripe_api.charge_saved_card(order, card)
    except stripe_api.CardDeclined as refusal:
        _give_up(order, str(refusal))
        return False
    except stripe_api.StripeUnavailable:
        return False  # the order stays open and is tried again
    if payment.get("status") == "processing":
        return False  # its event will tell
    if payment.get("status") != "succeeded":
        _give_up(order, "The bank asks the card's owner to confirm the payment.")
        return False
    stripe_events.note_intent(payment)
    return True


def _give_up(order: Order, problem: str) -> None:
    """Close the order, switch the rule off, and say so."""
    organization = order.organization
    with transaction.atomic():
        purchases.close(order, Order.Status.CANCELED)
        stop(organization=organization, problem=problem)
        events.record(organization=organization, kind="credits.top_up_failed", data={"problem": problem})
    log.warning("top_up_failed", organization_id=organization.pk, order=str(order.public_id))
    letters.send(
        organization,
        f"{organization.name}: credit could not be bought automatically",
        f"{problem} Automatic top-up is switched off until you set it again, after you have seen to the card.",
    )
