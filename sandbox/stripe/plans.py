"""Subscriptions of the simulated Stripe: begun at a checkout, renewed by a test or a page, ended by their owner."""

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sandbox.stripe.bank import Bank

Record = dict[str, Any]

MONTH_S = 30 * 86_400


def begin(bank: "Bank", session: Record, percent_off: int) -> None:
    """The payer agrees: the subscription, its first invoice and payment, or its trial."""
    agreed = session["sandbox"]["subscription_data"]
    days = int(agreed.get("trial_period_days") or 0)
    starts = int(time.time())
    ends = starts + (days * 86_400 or MONTH_S)
    bank.save_card(session["customer"])
    made = bank.make(
        "sub",
        "subscription",
        customer=session["customer"],
        status="trialing" if days else "active",
        cancel_at_period_end=False,
        cancel_at=None,
        metadata=agreed.get("metadata", {}),
        items={"object": "list", "data": [{"current_period_start": starts, "current_period_end": ends}]},
        currency=session["currency"],
    )
    made["sandbox"] = {
        "amount": session["amount_subtotal"],
        "percent_off": percent_off,
        "base_url": session["url"].rpartition("/pay/")[0],
    }
    session |= {"status": "complete", "subscription": made["id"], "payment_status": "paid"}
    bank.keep()
    bank.tell("customer.subscription.created", {**made, "status": "incomplete"})
    bill(bank, made, reason="subscription_create", amount=0 if days else None)
    bank.tell("customer.subscription.updated", made)
    bank.tell("checkout.session.completed", session)


def renew(bank: "Bank", subscription: Record, *, is_declined: bool = False) -> None:
    """The next month: paid, or not; a subscription that ends with its month ends."""
    if subscription["cancel_at_period_end"]:
        end(bank, subscription)
        return
    if is_declined:
        subscription["status"] = "past_due"
        bank.keep()
        bank.tell("customer.subscription.updated", subscription)
        return
    period = subscription["items"]["data"][0]
    period["current_period_start"] = period["current_period_end"]
    period["current_period_end"] += MONTH_S
    subscription["status"] = "active"
    bank.keep()
    bill(bank, subscription, reason="subscription_cycle")
    bank.tell("customer.subscription.updated", subscription)


def end(bank: "Bank", subscription: Record) -> None:
    subscription["status"] = "canceled"
    bank.keep()
    bank.tell("customer.subscription.deleted", subscription)


def change(bank: "Bank", subscription: Record, fields: Record) -> Record:
    """What the API may change: whether it ends with its month."""
    subscription["cancel_at_period_end"] = str(fields.get("cancel_at_period_end", "")).lower() == "true"
    bank.keep()
    bank.tell("customer.subscription.updated", subscription)
    return subscription


def bill(bank: "Bank", subscription: Record, *, reason: str, amount: int | None = None) -> Record:
    """An invoice and its payment. The payment is told of apart from the invoice, as since API 2025-03-31."""
    terms = subscription["sandbox"]
    subtotal = terms["amount"] if amount is None else amount
    total = subtotal * (100 - terms["percent_off"]) // 100
    invoice = bank.make(
        "in",
        "invoice",
        customer=subscription["customer"],
        status="paid",
        billing_reason=reason,
        currency=subscription["currency"],
        subtotal=subtotal,
        total=total,
        amount_paid=total,
        subscription=subscription["id"],
        parent={
            "type": "subscription_details",
            "subscription_details": {"subscription": subscription["id"], "metadata": subscription["metadata"]},
        },
        payments={"object": "list", "data": []},
    )
    invoice["hosted_invoice_url"] = f"{terms['base_url']}/invoices/{invoice['id']}"
    if total:
        intent, charge = bank.charge(
            customer=subscription["customer"],
            amount=total,
            currency=subscription["currency"],
            metadata={},
            base_url=terms["base_url"],
        )
        paid = bank.make(
            "inpay",
            "invoice_payment",
            invoice=invoice["id"],
            status="paid",
            amount_paid=total,
            payment={"type": "payment_intent", "payment_intent": intent["id"]},
        )
        invoice["payments"]["data"] = [{"id": paid["id"], "payment": paid["payment"]}]
        bank.keep()
        bank.tell("charge.succeeded", charge)
        bank.tell("payment_intent.succeeded", intent)
        bank.tell("invoice_payment.paid", paid)
    bank.tell("invoice.paid", {**invoice, "payments": None})
    return invoice
