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
from billing.models import BillingProfile, Order

log = structlog.get_logger(__name__)

TIMEOUT_S = 15
PER_PAGE = 100


class StripeUnavailable(Exception):
    """Stripe does not answer, or refuses: nothing was bought. The message is for people."""


class PaymentsOff(StripeUnavailable):
    """This installation has no Stripe key."""


def is_on() -> bool:
    """Whether credit can be bought here."""
    return bool(settings.STRIPE_SECRET_KEY) and not settings.IS_SELF_HOSTED


def is_live() -> bool:
    """Whether real money moves."""
    return settings.STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))


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
                            "product_data": {
                                "name": f"{order.pack.name}: {order.credits + order.bonus_credits:,} credits"
                            },
                        },
                    }
                ],
                "allow_promotion_codes": True,
                "invoice_creation": {"enabled": True},
                "metadata": metadata,
                "payment_intent_data": {"metadata": metadata},
                "success_url": f"{success}?session_id={{CHECKOUT_SESSION_ID}}",
                "cancel_url": f"{billing_page}?canceled={order.public_id}",
            },
            {"idempotency_key": f"checkout-{order.public_id}"},
        )
    )
    Order.objects.filter(pk=order.pk).update(checkout_session_id=session["id"])
    url: str = session["url"]
    return url


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
    except stripe.StripeError as error:
        log.warning("stripe_failed", error=type(error).__name__, status=error.http_status, code=error.code)
        raise StripeUnavailable("The payment provider does not answer right now. Please try again.") from None
    told: dict[str, Any] = answer.to_dict()
    return told


@cache
def _client(key: str, base: str) -> stripe.StripeClient:
    options: dict[str, Any] = {"base_addresses": {"api": base}} if base else {}
    return stripe.StripeClient(
        key,
        http_client=stripe.HTTPXClient(timeout=TIMEOUT_S, allow_sync_methods=True),
        max_network_retries=2,
        **options,
    )
