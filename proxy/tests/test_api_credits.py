"""Packs, purchases, transactions, transfers and the operator's adjustments over the API."""

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from accounts.models import AuditEntry, Membership, Role
from accounts.tests.factories import UserFactory
from billing import ledger, stripe_api
from billing.models import Order
from billing.money import NANOS_PER_CREDIT
from proxy.tests.api_kit import ApiClient, assert_error, customer

pytestmark = pytest.mark.django_db

HUNDRED = 100 * NANOS_PER_CREDIT
TOKEN = "an-operator-token"


def operator(path: str, body: Any = None, *, token: str = TOKEN) -> Any:
    headers = {"x-admin-token": token}
    address = f"/v1/admin/credits/{path}"
    if body is None:
        return Client().get(address, headers=headers)
    return Client().post(address, body, content_type="application/json", headers=headers)


def test_the_five_packs() -> None:
    listed = customer().get("/v1/credits/packs").json()["data"]
    told = [(pack["id"], pack["total_credits"], pack["price_cents"]) for pack in listed]
    assert told == [
        ("starter", 100, 199),
        ("basic", 550, 799),
        ("popular", 1_800, 1_999),
        ("pro", 4_500, 3_999),
        ("enterprise", 11_000, 7_999),
    ]


def test_a_purchase_opens_a_checkout(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = customer()
    assert_error(caller.post("/v1/credits/purchase", {"pack_id": "popular"}), 400, "payments_off")
    settings.STRIPE_SECRET_KEY = "sk_test_0123456789"
    monkeypatch.setattr(stripe_api, "checkout", lambda order: f"https://stripe.test/{order.public_id}")
    made = caller.post("/v1/credits/purchase", {"pack_id": "popular", "payment_method": "stripe"}).json()
    order = Order.objects.get()
    assert (made["id"], made["status"], made["checkout_url"]) == (
        str(order.public_id),
        "open",
        f"https://stripe.test/{order.public_id}",
    )
    assert order.organization == caller.organization
    noted = AuditEntry.objects.get(organization=caller.organization, action="credits.order")
    assert (noted.via, noted.ip) == (f"key {caller.key.masked}", "127.0.0.1")
    assert_error(caller.post("/v1/credits/purchase", {"pack_id": "none"}), 400, "invalid_value")
    assert_error(
        caller.post("/v1/credits/purchase", {"pack_id": "pro", "payment_method": "cash"}), 400, "invalid_value"
    )

    def fails(_order: Order) -> str:
        raise stripe_api.StripeUnavailable("away")

    monkeypatch.setattr(stripe_api, "checkout", fails)
    assert_error(caller.post("/v1/credits/purchase", {"pack_id": "pro"}), 503, "service_unavailable")


def test_transactions_page_by_cursor_and_come_as_csv() -> None:
    caller, other = customer(HUNDRED), customer(HUNDRED)
    for number in range(4):
        ledger.grant(
            organization=caller.organization, amount=1 + number, reason=f"={number}", idempotency_key=uuid4().hex
        )
    seen, after = [], ""
    while True:
        page = caller.get(f"/v1/credits/transactions?limit=2{after}").json()
        seen += page["data"]
        if not page["has_more"]:
            break
        after = f"&after={page['next']}"
    assert [row["memo"] for row in seen] == ["=3", "=2", "=1", "=0", "test"]
    assert seen[-1]["credits"] == "100.0000"
    text = caller.get("/v1/credits/transactions?format=csv&type=grant").content.decode()
    assert text.splitlines()[1].endswith(",grant,0.0000004,'=3")
    assert len(other.get("/v1/credits/transactions").json()["data"]) == 1
    assert_error(caller.get("/v1/credits/transactions?limit=0"), 400, "invalid_value")
    assert_error(caller.get("/v1/credits/transactions?type=x"), 400, "invalid_value")


def test_a_transfer_moves_once() -> None:
    sender, recipient = customer(HUNDRED), customer()
    body = {"to": recipient.organization.slug, "credits": "60", "idempotency_key": "k", "memo": "thanks"}
    first, second = sender.post("/v1/credits/transfer", body), sender.post("/v1/credits/transfer", body)
    assert (first.json()["credits"], first.json()["id"]) == ("-60.0000", second.json()["id"])
    assert _posted(sender) == 40 * NANOS_PER_CREDIT
    assert recipient.get("/v1/credits/transactions").json()["data"][0]["credits"] == "60.0000"
    assert AuditEntry.objects.get(action="credits.send").via == f"key {sender.key.masked}"
    assert_error(sender.post("/v1/credits/transfer", body | {"credits": "61"}), 409, "conflict")
    assert_error(sender.post("/v1/credits/transfer", body | {"idempotency_key": "l"}), 429, "insufficient_quota")
    assert_error(sender.post("/v1/credits/transfer", {"to": "nobody", "credits": "1"}), 404, "not_found")
    to = recipient.organization.slug
    wrong = [{"to": to, "credits": amount} for amount in ("-1", "x", None, True, "0")]
    for body in (*wrong, {"credits": "1"}, {"to": "", "credits": "1"}, {"to": [to], "credits": "1"}):
        assert_error(sender.post("/v1/credits/transfer", body), 400, "invalid_value")
    assert _posted(sender) == 40 * NANOS_PER_CREDIT


def test_a_key_without_the_scope_buys_and_sends_nothing() -> None:
    sender, recipient = customer(HUNDRED, scopes=["chat"]), customer()
    body = {"to": recipient.organization.slug, "credits": "60"}
    assert_error(sender.post("/v1/credits/transfer", body), 403, "scope_missing")
    assert_error(sender.post("/v1/credits/purchase", {"pack_id": "pro"}), 403, "scope_missing")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/credits/transfer", {"to": "a\0", "credits": "1"}),
        ("/v1/credits/purchase", {"pack_id": "a\0"}),
        ("/v1/images?model=%00", None),
        ("/v1/images?q=%00", None),
        ("/v1/images?limit=0", None),
        ("/v1/images?mine=1&visibility=secret", None),
    ],
)
def test_nonsense_is_the_clients_fault(path: str, body: Any) -> None:
    """Also a text that PostgreSQL cannot hold: a 503 would have the SDK try it again and again."""
    caller = customer()
    answer = caller.get(path) if body is None else caller.post(path, body)
    assert_error(answer, 400, "invalid_value")


def test_a_key_moves_credit_only_while_its_maker_may() -> None:
    """Else a developer, who may make keys and no payments, sends the organization's credit to one of their own."""
    owner = UserFactory()
    sender, recipient = customer(HUNDRED, by=owner), customer()
    membership = Membership.objects.create(organization=sender.organization, user=owner, role=Role.DEVELOPER)
    body = {"to": recipient.organization.slug, "credits": "1"}

    def tried() -> list[int]:
        return [
            sender.post("/v1/credits/transfer", body).status_code,
            sender.post("/v1/credits/purchase", {"pack_id": "none"}).status_code,
            sender.get("/v1/credits/transactions").status_code,
            sender.get("/v1/credits/balance").status_code,
        ]

    assert_error(sender.post("/v1/credits/transfer", body), 403, "role")
    assert tried() == [403, 403, 403, 200]
    Membership.objects.update(role=Role.ADMIN)
    assert tried() == [200, 400, 200, 200]
    membership.delete()
    assert tried() == [403, 403, 403, 200]


def test_the_operator_adds_takes_and_counts(settings: Any) -> None:
    one = customer(HUNDRED)
    body = {"organization": one.organization.slug, "credits": "50", "reason": "thanks", "idempotency_key": "a"}
    assert_error(operator("deposit", body), 401, "invalid_api_key")
    settings.ADMIN_TOKEN = TOKEN
    assert_error(operator("deposit", body, token="another"), 401, "invalid_api_key")
    assert_error(operator("deposit", body, token=""), 401, "invalid_api_key")
    assert operator("deposit", body).json()["available"] == "150.0000"
    assert operator("deposit", body).json()["available"] == "150.0000"
    assert operator("deduct", body | {"idempotency_key": "b"}).json()["available"] == "100.0000"
    assert operator("adjust", body | {"idempotency_key": "c", "credits": "-40.5"}).json()["available"] == "59.5000"
    assert_error(operator("deduct", body | {"idempotency_key": "d", "credits": "60"}), 400, "insufficient_credit")
    assert_error(operator("deduct", body | {"credits": "-1"}), 400, "invalid_value")
    assert_error(operator("adjust", body | {"reason": ""}), 400, "invalid_value")
    assert_error(operator("adjust", body | {"organization": "x"}), 404, "not_found")
    told = operator("stats").json()
    assert (told["outstanding"], told["by_type"]["grant"], told["by_type"]["adjustment"]) == (
        "59.5000",
        "150.0000",
        "90.5000",
    )


def test_nothing_of_it_is_there_where_no_credit_is_sold(settings: Any) -> None:
    settings.IS_SELF_HOSTED = True
    caller = customer()
    assert_error(caller.get("/v1/credits/packs"), 404, "unknown_url")
    assert_error(caller.post("/v1/credits/purchase", {}), 404, "unknown_url")
    assert_error(caller.get("/v1/credits/transactions"), 404, "unknown_url")


def _posted(caller: ApiClient) -> int:
    return ledger.balance_of(caller.organization).posted
