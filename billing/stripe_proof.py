"""Whether the books say of payments what Stripe says of them: a part of reconciliation that needs the network.

Every order that was paid at Stripe is credited, no other is, and as much was taken back as Stripe refunded.
"""

from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone

from billing import stripe_api, stripe_plans
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
    found += _automatic(unknown.filter(is_automatic=True)) + _invoices(now, unknown.filter(invoice_id__isnull=False))
    for order in unknown.exclude(pk__in=seen).filter(is_automatic=False, invoice_id=None):
        found.append(_drift("stripe_paid", order, "a checkout", "none at Stripe"))
    return found


def _automatic(orders: QuerySet[Order]) -> list[Drift]:
    """Top-ups: what their payments collected, and gave back."""
    found: list[Drift] = []
    for order in orders:
        charges = stripe_api.charges_of(str(order.payment_intent_id))
        paid = sum(charge["amount"] for charge in charges if charge.get("status") == "succeeded")
        refunded = sum(charge["amount_refunded"] for charge in charges)
        if (paid, refunded) != (order.paid_cents, order.refunded_cents):
            told = f"{paid} cents, {refunded} refunded"
            found.append(_drift("stripe_amount", order, told, f"{order.paid_cents}, {order.refunded_cents} refunded"))
    return found


def _invoices(now: datetime, orders: QuerySet[Order]) -> list[Drift]:
    """Months of plans: every invoice that was paid for one is credited, and no other."""
    found: list[Drift] = []
    credited = {order.invoice_id: order for order in orders}
    for invoice in stripe_api.invoices_since(now - LOOKED_AT):
        order = credited.pop(invoice.get("id"), None)
        ours = stripe_plans.subscription_of(invoice)
        if ours is None or not invoice.get("subtotal") or invoice.get("created", 0) > (now - SETTLING).timestamp():
            continue
        if order is None and not Order.objects.filter(invoice_id=invoice["id"], status=Order.Status.PAID).exists():
            found.append(Drift("stripe_paid", str(invoice["id"]), "credited", "not credited", is_derived=False))
        elif order is not None and invoice.get("amount_paid") != order.paid_cents:
            told = str(invoice.get("amount_paid"))
            found.append(_drift("stripe_amount", order, told, str(order.paid_cents)))
    return found + [_drift("stripe_paid", order, "an invoice", "none at Stripe") for order in credited.values()]


def _drift(check: str, order: Order, expected: str, actual: str) -> Drift:
    return Drift(check=check, subject=str(order.public_id), expected=expected, actual=actual, is_derived=False)
