"""Buying credit: orders, and the verbs by which Stripe's objects move money. Each may be called again, in any order.

A payment credits its order once. Refunds and disputes only change what should have been taken back of a paid order;
the difference to what has been is then transferred. So every order of events ends in the same books.
"""

from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db import transaction
from django.utils import timezone

from accounts import audit, events
from accounts.models import Organization, User
from billing import ledger, lots
from billing.models import Account, AccountKind, Dispute, Lot, Order, Pack, Subscription, Transfer
from billing.money import format_credits

log = structlog.get_logger(__name__)

# A later one counts, whatever comes when.
_FINALITY = (Dispute.State.OPEN, Dispute.State.LOST, Dispute.State.WON)


class PaymentMismatch(Exception):
    """What was paid is not what was ordered: nothing is credited, staff must look."""


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment that Stripe says is complete. `subtotal_cents` is the price before discounts and taxes.

    `payment_intent_id` is empty where a discount left nothing to pay.
    """

    session_id: str
    payment_intent_id: str
    subtotal_cents: int
    paid_cents: int
    currency: str


def order(
    *,
    organization: Organization,
    pack: Pack,
    by: User | None,
    origin: audit.Origin | None = None,
    is_automatic: bool = False,
) -> Order:
    """A new order for a pack at its present price."""
    with transaction.atomic():
        made = Order.objects.create(
            organization=organization,
            user=by,
            pack=pack,
            currency=pack.currency,
            amount_cents=pack.price_cents,
            credits=pack.credits,
            bonus_credits=pack.bonus_credits,
            is_automatic=is_automatic,
        )
        audit.record(
            action="credits.order",
            target=organization,
            organization=organization,
            by=by,
            origin=origin,
            order=str(made.public_id),
            pack=pack.slug,
        )
    return made


def order_of_invoice(subscription: Subscription, invoice_id: str) -> Order:
    """The order of one month of a subscription, made at the first call."""
    made, _ = Order.objects.get_or_create(
        invoice_id=invoice_id,
        defaults={
            "organization_id": subscription.organization_id,
            "user_id": subscription.user_id,
            "subscription": subscription,
            "currency": subscription.currency,
            "amount_cents": subscription.amount_cents,
            "credits": subscription.monthly_credits,
        },
    )
    return made


def pay(of: Order, payment: Payment) -> bool:
    """Credit a paid order, once; False if it was credited before. Raises `PaymentMismatch`."""
    with transaction.atomic():
        found = _locked(of)
        if found.status == Order.Status.PAID:
            _note_payment(found, payment.payment_intent_id)
            return False
        _check(found, payment)
        account = ledger.account_of(found.organization)
        clearing, promotions = ledger.house(AccountKind.STRIPE_CLEARING), ledger.house(AccountKind.PROMOTIONS)
        ledger.lock(account, clearing, promotions)
        bought = ledger.transfer(
            debit=clearing,
            credit=account,
            amount=found.credit_nanos,
            kind=Transfer.Kind.PURCHASE,
            idempotency_key=f"order:{found.public_id}",
            memo=found.title,
            by=found.user,
            group=found.public_id,
        )
        if found.subscription is None:
            lots.add(bought, Lot.Kind.PAID)
        else:
            days = found.subscription.credit_days
            expires_at = None if days is None else timezone.now() + timedelta(days=days)
            lots.add(bought, Lot.Kind.PLAN, expires_at=expires_at)
        if found.bonus_credits:
            bonus = ledger.transfer(
                debit=promotions,
                credit=account,
                amount=found.bonus_nanos,
                kind=Transfer.Kind.BONUS,
                idempotency_key=f"order:{found.public_id}:bonus",
                memo=f"{found.title}, bonus",
                by=found.user,
                group=found.public_id,
            )
            lots.add(bonus, Lot.Kind.BONUS)
        found.status, found.paid_at, found.paid_cents = Order.Status.PAID, timezone.now(), payment.paid_cents
        found.payment_intent_id = payment.payment_intent_id or None
        found.checkout_session_id = payment.session_id or found.checkout_session_id
        found.save()
        events.record(
            organization=found.organization,
            kind="credits.purchased",
            data={
                "order": str(found.public_id),
                "credits": format_credits(found.credit_nanos + found.bonus_nanos),
                "amount_cents": payment.paid_cents,
                "currency": found.currency,
            },
        )
        _claw(found, Transfer.Kind.REFUND)
    log.info("order_paid", order=str(of.public_id), organization_id=of.organization_id, cents=payment.paid_cents)
    return True


def note_payment(of: Order, payment_intent_id: str) -> None:
    """Which payment paid this invoice's order. Raises `PaymentMismatch`."""
    with transaction.atomic():
        _note_payment(_locked(of), payment_intent_id)


def note_refunded(of: Order, refunded_cents: int, *, is_current: bool = False) -> None:
    """Of this order so much has been refunded in all. An old event says less and changes nothing; with `is_current`,
    which is for what was just fetched, a refund that failed is given back."""
    with transaction.atomic():
        found = _locked(of)
        if refunded_cents > found.refunded_cents or (is_current and refunded_cents != found.refunded_cents):
            found.refunded_cents = refunded_cents
            found.save(update_fields=["refunded_cents"])
            _claw(found, Transfer.Kind.REFUND)


def note_dispute(of: Order, *, stripe_id: str, amount_cents: int, state: int) -> None:
    """A dispute over this order is open, won or lost. One that is decided never opens again; a lost one may be won by
    an appeal, a won one stays so."""
    with transaction.atomic():
        found = _locked(of)
        dispute, is_new = Dispute.objects.get_or_create(
            stripe_id=stripe_id, defaults={"order": found, "amount_cents": amount_cents, "state": state}
        )
        if not is_new and _FINALITY.index(state) > _FINALITY.index(dispute.state):
            dispute.state = state
            dispute.save(update_fields=["state"])
        against_us = found.disputes.exclude(state=Dispute.State.WON)
        found.disputed_cents = sum(one.amount_cents for one in against_us)
        found.save(update_fields=["disputed_cents"])
        _claw(found, Transfer.Kind.DISPUTE)


def close(of: Order, status: str) -> bool:
    """An open order came to nothing: canceled or expired; False if it is not open any more."""
    return bool(Order.objects.filter(pk=of.pk, status=Order.Status.OPEN).update(status=status))


def _locked(of: Order) -> Order:
    rows = Order.objects.select_for_update(of=("self",))
    return rows.select_related("pack", "subscription__plan", "organization", "user").get(pk=of.pk)


def _note_payment(found: Order, payment_intent_id: str) -> None:
    """A paid order's payment, where it is told after its credit, as with invoices. Raises `PaymentMismatch`."""
    if not payment_intent_id or found.payment_intent_id == payment_intent_id:
        return
    if found.payment_intent_id or not found.invoice_id:
        raise PaymentMismatch(f"order {found.public_id} was paid by another payment")
    found.payment_intent_id = payment_intent_id
    found.save(update_fields=["payment_intent_id"])


def _check(found: Order, payment: Payment) -> None:
    if payment.currency != found.currency:
        raise PaymentMismatch(f"order {found.public_id} is in {found.currency}, paid in {payment.currency}")
    if payment.subtotal_cents != found.amount_cents:
        raise PaymentMismatch(
            f"order {found.public_id} costs {found.amount_cents} cents, the checkout was over {payment.subtotal_cents}"
        )
    if found.checkout_session_id and payment.session_id and found.checkout_session_id != payment.session_id:
        raise PaymentMismatch(f"order {found.public_id} belongs to another checkout")


def _claw(found: Order, kind: str) -> None:
    """Take back, or give back, what refunds and disputes make of a paid order; freeze whom this overdraws."""
    if found.status != Order.Status.PAID:
        return
    total = found.credit_nanos + found.bonus_nanos
    lost_cents = min(found.paid_cents, found.refunded_cents + found.disputed_cents)
    target = -(-total * lost_cents // found.paid_cents) if found.paid_cents else 0
    difference = target - found.clawed_nanos
    if not difference:
        return
    account = ledger.account_of(found.organization)
    house = ledger.house(AccountKind.DISPUTES if kind == Transfer.Kind.DISPUTE else AccountKind.STRIPE_CLEARING)
    ledger.lock(account, house)
    found.claws += 1
    if difference > 0:
        lots.sync(account)
    _move_back(found, account, house, kind, difference)
    found.clawed_nanos = target
    found.save(update_fields=["clawed_nanos", "claws"])
    account.refresh_from_db()
    if account.posted - account.unsettled + account.credit_limit < 0:
        ledger.freeze(account=account, reason=ledger.CLAWED_BACK)
    log.warning(
        "order_clawed_back", order=str(found.public_id), organization_id=found.organization_id, nanos=difference
    )


def _move_back(found: Order, account: Account, house: Account, kind: str, difference: int) -> None:
    """One transfer for the difference. The bonus is taken back with the paid part: both were one purchase."""
    memo = f"{'Dispute' if kind == Transfer.Kind.DISPUTE else 'Refund'}: {found.title}"
    debit, credit = (account, house) if difference > 0 else (house, account)
    moved = ledger.transfer(
        debit=debit,
        credit=credit,
        amount=abs(difference),
        kind=kind,
        idempotency_key=f"order:{found.public_id}:claw:{found.claws}",
        memo=memo,
        group=found.public_id,
    )
    if difference > 0:
        own = Lot.objects.filter(transfer__group=found.public_id, account=account, remaining__gt=0)
        lots.take_from(list(own.order_by("-kind")), moved)
    else:
        lots.add(moved, Lot.Kind.PAID)
