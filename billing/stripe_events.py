"""What Stripe tells: signed events, and the objects that we fetch. Both end in the same verbs of `billing.purchases`.

An event and what it moves are one transaction, so an event that was answered with 200 is never lost, and one that comes
again finds itself (docs.stripe.com/webhooks). Nothing here calls Stripe while that transaction is open.
"""

import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import stripe
import structlog
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from billing import purchases, stripe_api, stripe_mirror, stripe_plans
from billing.models import Dispute, Order, StripeEvent, Subscription
from billing.purchases import Payment, PaymentMismatch
from billing.stripe_objects import cents, mapping, moment, subjects_of

log = structlog.get_logger(__name__)

TOLERANCE_S = 300
SWEPT = timedelta(days=4)
NO_ORDER = "no order of ours"
CREDITED = "credited"
LINKED = "payment noted"
REFUND_FAILED, LOOKED_AT = "refund failed: the sweep looks", "refund failed: looked at"


class BadSignature(ValueError):
    """The event is not from Stripe, or is too old, or from the future."""


class WrongMode(ValueError):
    """A test event for a live installation, or the other way round."""


def verify(payload: bytes, header: str) -> dict[str, Any]:
    """The event, if any of our secrets signed it within five minutes of now. Raises `BadSignature`, `WrongMode`."""
    if not header.isascii():  # stripe compares texts that must be
        raise BadSignature
    for secret in settings.STRIPE_WEBHOOK_SECRETS:
        try:
            stripe.WebhookSignature.verify_header(payload.decode(), header, secret, TOLERANCE_S)
        except (stripe.SignatureVerificationError, UnicodeDecodeError, ValueError):
            continue
        break
    else:
        raise BadSignature
    if _signed_at(header) > time.time() + TOLERANCE_S:
        raise BadSignature
    try:
        event = json.loads(payload)
    except ValueError:
        raise BadSignature from None
    if not isinstance(event, dict) or not isinstance(event.get("id"), str):
        raise BadSignature
    if bool(event.get("livemode")) is not stripe_api.is_live():
        raise WrongMode
    return event


def receive(event: dict[str, Any]) -> bool:
    """Keep a verified event and do what it says, in one transaction; False if it was here before."""
    kind = str(event.get("type"))[:100]
    with transaction.atomic():
        row = StripeEvent(stripe_id=event["id"], type=kind, payload=event)
        # A delivery of the same event at the same moment waits here, and then finds it.
        StripeEvent.objects.bulk_create([row], ignore_conflicts=True)
        kept = StripeEvent.objects.select_for_update().get(stripe_id=event["id"])
        if kept.outcome:
            return False
        _apply(kept)
        if (subject := _subject(event)) is not None:
            stripe_mirror.keep(subject, moment(event.get("created")) or timezone.now())
        if kept.outcome in {CREDITED, LINKED} and kept.order is not None:
            _apply_parked(kept.order)
    return True


def _apply(kept: StripeEvent) -> None:
    """Do what an event says, and note what came of it."""
    apply, subject = HANDLERS.get(kept.type), _subject(kept.payload)
    if kept.type in SUBSCRIPTION_EVENTS and subject is not None:
        told_at = moment(kept.payload.get("created")) or timezone.now()
        kept.outcome = stripe_plans.note_state(subject, told_at)
    elif apply is None or subject is None:
        kept.outcome = "not needed"
    else:
        _lock_payment(subject)
        try:
            with transaction.atomic():
                kept.order, kept.outcome = apply(subject)
        except PaymentMismatch as problem:
            log.error("payment_mismatch", stripe_event=kept.stripe_id, problem=str(problem))
            kept.outcome = f"mismatch: {problem}"[:200]
    kept.save(update_fields=["outcome", "order"])


def _apply_parked(order: Order) -> None:
    """Do what events say that came before this order or its payment was known."""
    parked = StripeEvent.objects.filter(outcome=NO_ORDER)
    if order.invoice_id:
        for event in parked.filter(type="invoice_payment.paid", payload__data__object__invoice=order.invoice_id):
            _apply(event)
    order.refresh_from_db()
    if order.payment_intent_id:
        for event in parked.filter(payload__data__object__payment_intent=order.payment_intent_id).order_by("pk"):
            _apply(event)


def _lock_payment(subject: dict[str, Any]) -> None:
    """One event of a payment at a time: none can pass another that is not committed yet."""
    with connection.cursor() as cursor:
        for name in subjects_of(subject):
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"stripe.payment:{name}"])


def _subject(event: dict[str, Any]) -> dict[str, Any] | None:
    data = event.get("data")
    subject = data.get("object") if isinstance(data, dict) else None
    return subject if isinstance(subject, dict) else None


def pull(order: Order) -> None:
    """Ask Stripe how an order stands, and do what a lost event would have done. Raises `StripeUnavailable`."""
    if order.checkout_session_id is None:
        for charge in stripe_api.charges_of(order.payment_intent_id) if order.payment_intent_id else []:
            _charge(charge, is_current=True)
        return
    found = stripe_api.session(order.checkout_session_id)
    charges = stripe_api.charges_of(order.payment_intent_id) if order.payment_intent_id else []
    payment = found.get("payment_intent")
    if isinstance(payment, dict):
        charge = payment.get("latest_charge")
        charges = charges or ([charge] if isinstance(charge, dict) else [])
        found = {**found, "payment_intent": payment.get("id")}
    _session(found)
    for charge in charges:
        _charge(charge, is_current=True)


def note_intent(found: dict[str, Any]) -> None:
    """Credit the order of a payment that Stripe just answered with. Raises `PaymentMismatch`."""
    _intent(found)


def sweep() -> int:
    """Pull what webhooks may have lost in four days, and how payments stand whose refund failed, which no event tells.

    Returns how many objects. Raises `StripeUnavailable`.
    """
    since = timezone.now() - SWEPT
    looked = 0
    for found in stripe_api.sessions_since(since):
        looked += 1
        _quietly(lambda found=found: _session(found))  # type: ignore[misc]
    for intent in stripe_api.intents_since(since):
        looked += 1
        _quietly(lambda intent=intent: _intent(intent))  # type: ignore[misc]
    for invoice in stripe_api.invoices_since(since):
        looked += 1
        _quietly(lambda invoice=invoice: _invoice(invoice))  # type: ignore[misc]
    known = Subscription.objects.filter(stripe_id__isnull=False)
    for subscription in known.exclude(status=Subscription.Status.CANCELED):
        looked += 1
        _quietly(lambda subscription=subscription: stripe_plans.pull(subscription))  # type: ignore[misc]
    for refund in stripe_api.refunds_since(since):
        looked += 1
        order = _order_of_payment(refund.get("payment_intent"))
        if order is not None:
            for charge in stripe_api.charges_of(str(order.payment_intent_id)):
                _quietly(lambda charge=charge: _charge(charge, is_current=True))  # type: ignore[misc]
    for event in StripeEvent.objects.filter(outcome=REFUND_FAILED).select_related("order"):
        looked += 1
        for charge in stripe_api.charges_of(event.order.payment_intent_id):
            _quietly(lambda charge=charge: _charge(charge, is_current=True))  # type: ignore[misc]
        StripeEvent.objects.filter(pk=event.pk).update(outcome=LOOKED_AT)
    for dispute in stripe_api.disputes_since(since):
        looked += 1
        _quietly(lambda dispute=dispute: _dispute(dispute))  # type: ignore[misc]
    return looked


# ---------------------------------------------------------------- one object each

Outcome = tuple[Order | None, str]


def _session(found: dict[str, Any]) -> Outcome:
    """A checkout session: paid, or over."""
    if found.get("mode") == "subscription":
        return None, stripe_plans.note_checkout(found)
    order = _order(found.get("client_reference_id"))
    if order is None:
        return None, NO_ORDER
    if found.get("mode") != "payment":
        raise PaymentMismatch(f"order {order.public_id} was no single payment")
    if found.get("status") == "expired":
        return order, "expired" if purchases.close(order, Order.Status.EXPIRED) else "over already"
    if found.get("payment_status") not in {"paid", "no_payment_required"}:
        return order, "not paid yet"
    payment = Payment(
        session_id=str(found.get("id")),
        payment_intent_id=str(found.get("payment_intent") or ""),
        subtotal_cents=cents(found, "amount_subtotal"),
        paid_cents=cents(found, "amount_total"),
        currency=str(found.get("currency")),
    )
    return order, CREDITED if purchases.pay(order, payment) else "credited before"


def _intent(found: dict[str, Any]) -> Outcome:
    """A payment: where it is what was ordered, without discounts or taxes, it need not wait for its checkout."""
    order = _order(mapping(found, "metadata").get("order"))
    if order is None:
        return None, NO_ORDER
    received = cents(found, "amount_received")
    if found.get("status") != "succeeded" or received != order.amount_cents:
        return order, "left to its checkout"
    payment = Payment("", str(found.get("id")), received, received, str(found.get("currency")))
    return order, CREDITED if purchases.pay(order, payment) else "credited before"


def _charge(found: dict[str, Any], *, is_current: bool = False) -> Outcome:
    """A charge: how much of it has been refunded, and where its receipt is.

    A payment has one charge for each card that was tried; what was refunded is on the one that went through.
    """
    order = _order(mapping(found, "metadata").get("order")) or _order_of_payment(found.get("payment_intent"))
    if order is None:
        return None, NO_ORDER
    if found.get("status") != "succeeded":
        return order, "not paid by this charge"
    refunded = cents(found, "amount_refunded")
    purchases.note_refunded(order, refunded, is_current=is_current)
    purchases.note_receipt(order, found.get("receipt_url"))
    return order, f"{refunded} cents refunded"


def _refund(found: dict[str, Any]) -> Outcome:
    """A refund: its charge tells how much of it there is, but for one that failed, maybe weeks later."""
    order = _order_of_payment(found.get("payment_intent"))
    if order is None:
        return None, NO_ORDER
    return order, REFUND_FAILED if found.get("status") in {"failed", "canceled"} else "told by its charge"


def _dispute(found: dict[str, Any]) -> Outcome:
    order = _order_of_payment(found.get("payment_intent")) or _order(mapping(found, "metadata").get("order"))
    if order is None:
        return None, NO_ORDER
    status = str(found.get("status"))
    if status in _INQUIRIES:
        return order, "an inquiry: nothing is withdrawn"
    state = _DISPUTES.get(status, Dispute.State.OPEN)
    purchases.note_dispute(order, stripe_id=str(found.get("id")), amount_cents=cents(found, "amount"), state=state)
    return order, f"dispute {Dispute.State(state).label.lower()}"


def _invoice(found: dict[str, Any]) -> Outcome:
    """A paid invoice: a month of a plan."""
    order, is_new = stripe_plans.pay_invoice(found)
    if order is None:
        return None, "nothing to credit"
    return order, CREDITED if is_new else "credited before"


def _invoice_payment(found: dict[str, Any]) -> Outcome:
    order = stripe_plans.link_payment(found)
    return order, LINKED if order is not None else NO_ORDER


# docs.stripe.com/api/disputes/object#dispute_object-status. An inquiry withdraws nothing, and may yet become a dispute;
# of one that was prevented, the money went back as a refund.
_INQUIRIES = frozenset({"warning_needs_response", "warning_under_review"})
_DISPUTES = {
    "won": Dispute.State.WON,
    "prevented": Dispute.State.WON,
    "warning_closed": Dispute.State.WON,
    "lost": Dispute.State.LOST,
    "appeal_needs_response": Dispute.State.LOST,
    "appeal_under_review": Dispute.State.LOST,
}
SUBSCRIPTION_EVENTS = frozenset(
    f"customer.subscription.{what}" for what in ("created", "updated", "deleted", "paused", "resumed")
)
HANDLERS: dict[str, Callable[[dict[str, Any]], Outcome]] = {
    "checkout.session.completed": _session,
    "checkout.session.async_payment_succeeded": _session,
    "checkout.session.async_payment_failed": _session,
    "checkout.session.expired": _session,
    "payment_intent.succeeded": _intent,
    "invoice.paid": _invoice,
    "invoice_payment.paid": _invoice_payment,
    "charge.succeeded": _charge,
    "charge.updated": _charge,
    "charge.refunded": _charge,
    "charge.refund.updated": _refund,
    "refund.failed": _refund,
    "refund.updated": _refund,
    "charge.dispute.created": _dispute,
    "charge.dispute.updated": _dispute,
    "charge.dispute.closed": _dispute,
    "charge.dispute.funds_withdrawn": _dispute,
    "charge.dispute.funds_reinstated": _dispute,
}


def _order(public_id: object) -> Order | None:
    try:
        wanted = UUID(str(public_id))
    except ValueError:
        return None
    return Order.objects.filter(public_id=wanted).first()


def _order_of_payment(payment_intent_id: object) -> Order | None:
    if not isinstance(payment_intent_id, str) or not payment_intent_id:
        return None
    return Order.objects.filter(payment_intent_id=payment_intent_id).first()


def _signed_at(header: str) -> float:
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t" and value.isdecimal():
            return float(value)
    return 0.0


def _quietly(look: Callable[[], object]) -> None:
    """One object of a sweep: what is wrong with it is for staff, and stops no other."""
    try:
        with transaction.atomic():
            look()
    except PaymentMismatch as problem:
        log.error("payment_mismatch", problem=str(problem))
