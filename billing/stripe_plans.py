"""What Stripe tells of subscriptions and their invoices, brought to `billing.subscriptions` and `billing.purchases`."""

from datetime import datetime
from typing import Any

from django.utils import timezone

from accounts.models import Organization
from billing import purchases, stripe_api, subscriptions
from billing.models import Order, Subscription
from billing.purchases import Payment, PaymentMismatch
from billing.stripe_objects import cents, first, mapping, moment

# docs.stripe.com/api/subscriptions/object#subscription_object-status
_STATES = {
    "incomplete": Subscription.Status.INCOMPLETE,
    "incomplete_expired": Subscription.Status.CANCELED,
    "trialing": Subscription.Status.TRIALING,
    "active": Subscription.Status.ACTIVE,
    "past_due": Subscription.Status.PAST_DUE,
    "unpaid": Subscription.Status.UNPAID,
    "paused": Subscription.Status.UNPAID,
    "canceled": Subscription.Status.CANCELED,
}


def note_state(found: dict[str, Any], told_at: datetime) -> str:
    """A subscription as it stood at `told_at`; returns what came of it."""
    ours = subscriptions.find(mapping(found, "metadata").get("subscription"))
    status = _STATES.get(str(found.get("status")))
    if ours is None or status is None:
        return "no subscription of ours"
    subscriptions.connect(ours, stripe_id=str(found.get("id")))
    is_new = subscriptions.note(
        ours,
        status=status,
        told_at=told_at,
        period_ends_at=moment(found.get("current_period_end") or first(found, "items").get("current_period_end")),
        cancel_at_period_end=bool(found.get("cancel_at_period_end") or found.get("cancel_at")),
    )
    return status.label.lower() if is_new else "older than what is known"


def note_checkout(found: dict[str, Any]) -> str:
    """A checkout of a subscription: over, or done."""
    ours = subscriptions.find(found.get("client_reference_id"))
    if ours is None:
        return "no subscription of ours"
    if found.get("status") == "expired":
        return "expired" if subscriptions.abandon(ours) else "over already"
    if isinstance(found.get("subscription"), str):
        subscriptions.connect(ours, stripe_id=found["subscription"], checkout_session_id=str(found.get("id")))
    return "connected"


def subscription_of(invoice: dict[str, Any]) -> Subscription | None:
    """Our subscription that an invoice is for: its metadata is on it (API 2025-03-31 and later, and before)."""
    agreed = mapping(invoice, "parent", "subscription_details", "metadata")
    agreed = agreed or mapping(invoice, "subscription_details", "metadata")
    return subscriptions.find(agreed.get("subscription"))


def order_of(found: dict[str, Any]) -> Order | None:
    """The order of an invoice or of an invoice's payment, if it is there."""
    invoice_id = found.get("invoice") if found.get("object") == "invoice_payment" else found.get("id")
    return Order.objects.filter(invoice_id=str(invoice_id)).first()


def pay_invoice(found: dict[str, Any]) -> tuple[Order | None, bool]:
    """Credit the month of a paid invoice: its order, and whether that was news. Raises `PaymentMismatch`.

    An invoice over nothing, as for a trial, credits nothing and has no order.
    """
    ours = subscription_of(found)
    if ours is None or found.get("status") != "paid" or cents(found, "subtotal") == 0:
        return None, False
    order = purchases.order_of_invoice(ours, str(found.get("id")))
    if order.subscription_id != ours.pk:
        raise PaymentMismatch(f"invoice {found.get('id')} belongs to another subscription")
    paid_by = mapping(first(found, "payments"), "payment").get("payment_intent") or found.get("payment_intent")
    payment = Payment(
        session_id="",
        payment_intent_id=str(paid_by or ""),
        subtotal_cents=cents(found, "subtotal"),
        paid_cents=cents(found, "amount_paid"),
        currency=str(found.get("currency")),
    )
    is_new = purchases.pay(order, payment)
    purchases.note_receipt(order, found.get("hosted_invoice_url"))
    return order, is_new


def link_payment(found: dict[str, Any]) -> Order | None:
    """Note which payment paid an invoice's order; None while the order is not there."""
    order, payment_intent_id = order_of(found), mapping(found, "payment").get("payment_intent")
    if order is not None and isinstance(payment_intent_id, str):
        purchases.note_payment(order, payment_intent_id)
    return order


def end_those_of_closed_organizations() -> int:
    """Let the plans of organizations that are being deleted end with their month; how many. May run twice.

    Raises `StripeUnavailable`.
    """
    rows = Subscription.objects.filter(status__in=Subscription.LIVE, cancel_at_period_end=False)
    ending = rows.filter(stripe_id__isnull=False).exclude(organization__status=Organization.Status.ACTIVE)
    for ours in ending:
        stripe_api.set_cancel_at_period_end(ours, is_to_end=True)
        pull(ours)
    return len(ending)


def pull(ours: Subscription) -> None:
    """Ask Stripe how a subscription stands, and do what lost events would have done. Raises `StripeUnavailable`."""
    if ours.checkout_session_id and not ours.stripe_id:
        note_checkout(stripe_api.session(ours.checkout_session_id))
        ours.refresh_from_db()
    if not ours.stripe_id:
        return
    asked_at = timezone.now()
    found = stripe_api.subscription(ours.stripe_id)
    note_state(found, asked_at.replace(microsecond=0))
    for invoice in stripe_api.invoices_of(ours.stripe_id):
        pay_invoice(invoice)
