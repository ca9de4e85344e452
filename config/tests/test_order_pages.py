"""What people read of a purchase that was refunded or is in dispute: in the list, and on its own page."""

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.models import Order, Pack
from billing.money import NANOS_PER_CREDIT
from config.tests.pages_kit import Cast, cast

pytestmark = pytest.mark.django_db


@pytest.fixture(name="cast")
def people() -> Cast:
    return cast()


def paid(cast: Cast, session: str = "cs_1", **fields: Any) -> Order:
    """The popular pack, paid with 19.99 dollars."""
    pack = Pack.objects.get(slug="popular")
    fields = {"status": Order.Status.PAID, "paid_cents": 1_999, "amount_cents": 1_999, **fields}
    return Order.objects.create(
        organization=cast.organization,
        pack=pack,
        currency="usd",
        credits=pack.credits,
        bonus_credits=pack.bonus_credits,
        checkout_session_id=session,
        **fields,
    )


def shown(client: Client, address: str) -> str:
    """The words of the page."""
    html = re.sub(r"<[^>]+>", " ", client.get(address).content.decode())
    return " ".join(html.split())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Receipt Paid"),
        ({"paid_cents": 0}, "Receipt Paid"),  # with a code for all of it
        ({"refunded_cents": 1_999}, "Receipt Refunded $19.99"),
        ({"refunded_cents": 500}, "Receipt Partly refunded $5.00"),
        ({"disputed_cents": 1_000}, "Receipt Disputed $10.00"),
        ({"disputed_cents": 1_000, "refunded_cents": 500}, "Receipt Disputed $10.00 Partly refunded $5.00"),
        ({"status": "expired", "paid_cents": 0}, "Receipt Expired"),
    ],
    ids=["paid", "free", "refunded", "partly", "disputed", "both", "expired"],
)
def test_the_list_says_what_became_of_a_payment(cast: Cast, fields: dict[str, Any], words: str) -> None:
    paid(cast, receipt_url="https://stripe.test/receipt", **fields)
    page = shown(cast.client("owner"), reverse("billing:billing", args=[cast.organization.slug]))
    assert words in page
    assert ("Receipt Paid" in page) == (words == "Receipt Paid")


def test_the_page_of_a_purchase_says_what_was_taken_back(cast: Cast) -> None:
    order = paid(cast, "cs_2")
    address = reverse("billing:checkout-done", args=[cast.organization.slug]) + "?session_id=cs_2"
    client = cast.client("owner")
    assert "Thank you 1,800 credits have been added for $19.99" in shown(client, address)
    Order.objects.filter(pk=order.pk).update(refunded_cents=500, clawed_nanos=451 * NANOS_PER_CREDIT)
    page = shown(client, address)
    assert "Thank you" not in page
    assert "Partly refunded $5.00" in page
    assert "1,800 credits were bought for $19.99; 451.00 of them were taken back." in page


def test_all_purchases_can_be_reached_and_what_was_not_paid_cost_nothing(cast: Cast) -> None:
    client, address = cast.client("owner"), reverse("billing:billing", args=[cast.organization.slug])
    paid(cast, "cs_first", status="expired", paid_cents=0)
    for number in range(10):
        paid(cast, f"cs_{number}")
    first, second = shown(client, address), shown(client, f"{address}?orders=2")
    assert first.count("Popular pack") == 10
    assert "?orders=2#orders" in client.get(address).content.decode()
    assert (second.count("Popular pack"), second.count("1,800 — Expired")) == (1, 1)


def test_more_purchases_need_no_more_queries(cast: Cast) -> None:
    client, address = cast.client("owner"), reverse("billing:billing", args=[cast.organization.slug])
    counts = []
    for count in (1, 4):
        for number in range(count):
            paid(cast, f"cs_{count}_{number}", refunded_cents=500, disputed_cents=1)
        client.get(address)
        with CaptureQueriesContext(connection) as queries:
            client.get(address)
        counts.append(len(queries))
    assert counts[0] == counts[1]
