"""Whether the books say of payments what Stripe says of them: a part of reconciliation that needs the network.

Every order that was paid at Stripe is credited, no other is, and as much was taken back as Stripe refunded.
"""

from datetime import timedelta

from django.utils import timezone

from billing import stripe_api
from billing.models import Order
from billing.reconciliation import Drift

# What happened just now may still be on its way to us.
SETTLING = timedelta(minutes=30)
LOOKED_AT = timedelta(days=4)
PAID = frozenset({"paid", "no_payment_required"})


def check() -> list[Drift]:
    """What differs, of the checkouts of four days; nothing where no payments are set up. Raises `StripeUnavailable`."""
    if not stripe_api.is_on():
        return []
    now = timezone.now()
    found: list[Drift] = []
    seen = set()
    for session in stripe_api.sessions_since(now - LOOKED_AT):
        order = Order.objects.filter(checkout_session_id=session.get("id")).first()
        if order is None or session.get("created", 0) > (now - SETTLING).timestamp():
            continue
        seen.add(order.pk)
        is_paid = session.get("payment_status") in PAID
        if is_paid != (order.status == Order.Status.PAID):
            found.append(_drift("stripe_paid", order, "paid" if is_paid else "not paid", order.status))
        elif is_paid and session.get("amount_total") != order.paid_cents:
            found.append(_drift("stripe_amount", order, str(session.get("amount_total")), str(order.paid_cents)))
        elif is_paid and order.payment_intent_id:
            refunded = sum(charge["amount_refunded"] for charge in stripe_api.charges_of(order.payment_intent_id))
            if refunded != order.refunded_cents:
                found.append(_drift("stripe_refunded", order, str(refunded), str(order.refunded_cents)))
    since = now - LOOKED_AT + SETTLING
    unknown = Order.objects.filter(status=Order.Status.PAID, created_at__gte=since, created_at__lt=now - SETTLING)
    for order in unknown.exclude(pk__in=seen):
        found.append(_drift("stripe_paid", order, "a checkout", "none at Stripe"))
    return found


def _drift(check: str, order: Order, expected: str, actual: str) -> Drift:
    return Drift(check=check, subject=str(order.public_id), expected=expected, actual=actual, is_derived=False)
