"""Stripe's API as far as we use it: customers, checkouts, the portal, and reading what webhooks may have lost.

`STRIPE_API_BASE` lets a simulator stand in; nothing here knows of it. Amounts are cents.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any

import stripe
import structlog
from django.conf import settings
from django.urls import reverse

from accounts.models import Organization
from billing.models import BillingProfile, Order, Subscription

log = structlog.get_logger(__name__)

TIMEOUT_S = 15
PER_PAGE = 100


class StripeUnavailable(Exception):
    """Stripe does not answer, or refuses: nothing was bought. The message is for people."""


class PaymentsOff(StripeUnavailable):
    """This installation has no Stripe key."""


class CardDeclined(StripeUnavailable):
    """The bank refuses the saved card, or wants its owner to confirm the payment."""


def is_on() -> bool:
    """Whether credit can be bought here."""
    return bool(settings.STRIPE_SECRET_KEY) and not settings.IS_SELF_HOSTED


def is_live() -> bool:
    """Whether real money moves."""
    return settings.STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))


def address() -> str:
    """Where Stripe answers, without a key with 401."""
    return f"{settings.STRIPE_API_BASE or 'https://api.stripe.com'}/v1/balance"


def checkout(order: Order) -> str:
    """The address of Stripe's checkout page for an open order. May be called again: it is the same checkout."""
    organization = order.organization
    billing_page = settings.SITE_URL + reverse("billing:billing", args=[organization.slug])
    metadata = {"order": str(order.public_id), "organization": str(organization.public_id)}
    success = settings.SITE_URL + reverse("billing:checkout-done", args=[organization.slug])
    session = _call(
        lambda client: client.v1.checkout.sessions.create(
            {
                "mode": "payment",
                "customer": customer_of(organization),
                "client_reference_id": str(order.public_id),
                "line_items": [
                    {
                        "quantity": 1,
                        "price_data": {
                            "currency": order.currency,
                            "unit_amount": order.amount_cents,
                            "product_data": {"name": f"{order.title}: {order.credits + order.bonus_credits:,} credits"},
                        },
                    }
                ],
                "allow_promotion_codes": True,
                "invoice_creation": {"enabled": True},
                "metadata": metadata,
                "payment_intent_data": {"metadata": metadata},
                "saved_payment_method_options": {"payment_method_save": "enabled"},
                "success_url": f"{success}?session_id={{CHECKOUT_SESSION_ID}}",
                "cancel_url": f"{billing_page}?canceled={order.public_id}",
            },
            {"idempotency_key": f"checkout-{order.public_id}"},
        )
    )
    Order.objects.filter(pk=order.pk).update(checkout_session_id=session["id"])
    url: str = session["url"]
    return url


def subscribe(subscription: Subscription) -> str:
    """The address of Stripe's checkout page for a subscription. May be called again: it is the same checkout."""
    organization, plan = subscription.organization, subscription.plan
    billing_page = settings.SITE_URL + reverse("billing:billing", args=[organization.slug])
    success = settings.SITE_URL + reverse("billing:subscribed", args=[organization.slug])
    metadata = {"subscription": str(subscription.public_id), "organization": str(organization.public_id)}
    agreed: dict[str, Any] = {"metadata": metadata}
    if plan.trial_days:
        agreed["trial_period_days"] = plan.trial_days
    fields: Any = {
        "mode": "subscription",
        "customer": customer_of(organization),
        "client_reference_id": str(subscription.public_id),
        "line_items": [
            {
                "quantity": 1,
                "price_data": {
                    "currency": subscription.currency,
                    "unit_amount": subscription.amount_cents,
                    "recurring": {"interval": "month"},
                    "product_data": {"name": f"{plan.name}: {subscription.monthly_credits:,} credits a month"},
                },
            }
        ],
        "allow_promotion_codes": True,
        "metadata": metadata,
        "subscription_data": agreed,
        "success_url": f"{success}?session_id={{CHECKOUT_SESSION_ID}}",
        "cancel_url": f"{billing_page}?canceled={subscription.public_id}",
    }
    key = {"idempotency_key": f"subscribe-{subscription.public_id}"}
    session = _call(lambda client: client.v1.checkout.sessions.create(fields, key))  # type: ignore[arg-type]
    Subscription.objects.filter(pk=subscription.pk).update(checkout_session_id=session["id"])
    url: str = session["url"]
    return url


def set_cancel_at_period_end(subscription: Subscription, *, is_to_end: bool) -> dict[str, Any]:
    """Let a subscription end with its paid month, or go on after all; returns it as it is now."""
    fields: Any = {"cancel_at_period_end": is_to_end}
    return _call(lambda client: client.v1.subscriptions.update(str(subscription.stripe_id), fields))


def subscription(stripe_id: str) -> dict[str, Any]:
    """A subscription as it is now."""
    return _call(lambda client: client.v1.subscriptions.retrieve(stripe_id))


def invoices_of(subscription_id: str) -> list[dict[str, Any]]:
    """The last invoices of a subscription, with their payments, the newest first."""
    fields: Any = {"subscription": subscription_id, "limit": 12, "expand": ["data.payments"]}
    listed: list[dict[str, Any]] = _call(lambda client: client.v1.invoices.list(fields))["data"]
    return listed


def saved_card(organization: Organization) -> str | None:
    """The id of the card that Stripe keeps for an organization: the default one, else the newest; None without."""
    customer_id = customer_of(organization)
    customer = _call(lambda client: client.v1.customers.retrieve(customer_id))
    default = (customer.get("invoice_settings") or {}).get("default_payment_method")
    if isinstance(default, str) and default:
        return default
    fields: Any = {"customer": customer_id, "type": "card", "limit": 1}
    found = _call(lambda client: client.v1.payment_methods.list(fields))["data"]
    return str(found[0]["id"]) if found else None


def charge_saved_card(order: Order, card: str) -> dict[str, Any]:
    """Pay an order with a saved card while nobody is there; the payment. Raises `CardDeclined`.

    May be called again within a day: it is the same payment (docs.stripe.com/payments/save-and-reuse).
    """
    fields: Any = {
        "amount": order.amount_cents,
        "currency": order.currency,
        "customer": customer_of(order.organization),
        "payment_method": card,
        "off_session": True,
        "confirm": True,
        "description": f"{order.title}: {order.credits + order.bonus_credits:,} credits",
        "metadata": {"order": str(order.public_id), "organization": str(order.organization.public_id)},
    }
    key = {"idempotency_key": f"top-up-{order.public_id}"}
    return _call(lambda client: client.v1.payment_intents.create(fields, key))  # type: ignore[arg-type]


def portal(organization: Organization) -> str:
    """The address of Stripe's customer portal: payment methods, invoices, receipts."""
    billing_page = settings.SITE_URL + reverse("billing:billing", args=[organization.slug])
    session = _call(
        lambda client: client.v1.billing_portal.sessions.create(
            {"customer": customer_of(organization), "return_url": billing_page}
        )
    )
    url: str = session["url"]
    return url


def customer_of(organization: Organization) -> str:
    """The organization's customer at Stripe, made at the first call."""
    profile, _ = BillingProfile.objects.get_or_create(organization=organization)
    if not profile.stripe_customer_id:
        owner = organization.memberships.filter(role="owner").select_related("user").first()
        fields: dict[str, Any] = {
            "name": organization.name,
            "metadata": {"organization": str(organization.public_id)},
        }
        if owner is not None:
            fields["email"] = owner.user.email
        key = {"idempotency_key": f"customer-{organization.public_id}"}
        made = _call(lambda client: client.v1.customers.create(fields, key))  # type: ignore[arg-type]
        BillingProfile.objects.filter(pk=profile.pk, stripe_customer_id="").update(stripe_customer_id=made["id"])
        profile.refresh_from_db()
    return profile.stripe_customer_id


def session(session_id: str) -> dict[str, Any]:
    """A checkout session as it is now, with its payment and charge."""
    expand = {"expand": ["payment_intent.latest_charge"]}
    return _call(lambda client: client.v1.checkout.sessions.retrieve(session_id, expand))  # type: ignore[arg-type]


def charges_of(payment_intent_id: str) -> list[dict[str, Any]]:
    """The charges of a payment."""
    found = _call(lambda client: client.v1.charges.list({"payment_intent": payment_intent_id, "limit": PER_PAGE}))
    listed: list[dict[str, Any]] = found["data"]
    return listed


def sessions_since(since: datetime) -> Iterator[dict[str, Any]]:
    """Checkout sessions made since then, the newest first."""
    created = {"gte": int(since.timestamp())}
    return _pages(lambda client, page: client.v1.checkout.sessions.list({"created": created, **page}))


def intents_since(since: datetime) -> Iterator[dict[str, Any]]:
    """Payments made since then, the newest first."""
    created = {"gte": int(since.timestamp())}
    return _pages(lambda client, page: client.v1.payment_intents.list({"created": created, **page}))


def invoices_since(since: datetime) -> Iterator[dict[str, Any]]:
    """Paid invoices made since then, with their payments, the newest first."""
    fields: Any = {"created": {"gte": int(since.timestamp())}, "status": "paid", "expand": ["data.payments"]}
    return _pages(lambda client, page: client.v1.invoices.list({**fields, **page}))


def refunds_since(since: datetime) -> Iterator[dict[str, Any]]:
    """Refunds made since then, the newest first."""
    created = {"gte": int(since.timestamp())}
    return _pages(lambda client, page: client.v1.refunds.list({"created": created, **page}))


def disputes_since(since: datetime) -> Iterator[dict[str, Any]]:
    """Disputes opened since then, the newest first."""
    created = {"gte": int(since.timestamp())}
    return _pages(lambda client, page: client.v1.disputes.list({"created": created, **page}))


def refund(order: Order, *, cents: int) -> dict[str, Any]:
    """Refund so much of a paid order, by staff's word. The books follow when Stripe says that it happened."""
    key = {"idempotency_key": f"refund-{order.public_id}-{order.refunded_cents}-{cents}"}
    fields: Any = {"payment_intent": order.payment_intent_id, "amount": cents}
    return _call(lambda client: client.v1.refunds.create(fields, key))  # type: ignore[arg-type]


def _pages(ask: Any) -> Iterator[dict[str, Any]]:
    page: dict[str, Any] = {"limit": PER_PAGE}
    while True:
        found = _call(lambda client, page=dict(page): ask(client, page))  # type: ignore[misc]
        yield from found["data"]
        if not found["has_more"]:
            return
        page["starting_after"] = found["data"][-1]["id"]


def _call(ask: Any) -> dict[str, Any]:
    """Stripe's answer as plain values. Raises `StripeUnavailable`."""
    if not is_on():
        raise PaymentsOff("Payments are not set up here.")
    try:
        answer = ask(_client(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE))
    except stripe.CardError as error:
        log.info("card_declined", code=error.code)
        raise CardDeclined("The card was declined.") from None
    except stripe.StripeError as error:
        log.warning("stripe_failed", error=type(error).__name__, status=error.http_status, code=error.code)
        raise StripeUnavailable("The payment provider does not answer right now. Please try again.") from None
    told: dict[str, Any] = answer.to_dict()
    return told


def forget_client() -> None:
    """Close the connections to Stripe; the next call opens them anew."""
    _http().close()
    _http.cache_clear()
    _client.cache_clear()


@cache
def _http() -> stripe.HTTPXClient:
    return stripe.HTTPXClient(timeout=TIMEOUT_S, allow_sync_methods=True)


@cache
def _client(key: str, base: str) -> stripe.StripeClient:
    options: dict[str, Any] = {"base_addresses": {"api": base}} if base else {}
    return stripe.StripeClient(key, http_client=_http(), max_network_retries=2, **options)
