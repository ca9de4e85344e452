"""Stripe's events in every order, number and shape end in the same books. Each event is signed as Stripe signs."""

import itertools
import random
import threading
import time
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.test import Client

from accounts.models import Event, Organization
from accounts.tests.factories import OrganizationFactory
from billing import codes, ledger, lots, purchases, stripe_api, stripe_events
from billing.models import Account, AccountKind, Lot, LotUse, Order, Pack, StripeEvent, StripeObject, Transfer
from billing.money import NANOS_PER_CREDIT
from billing.tests.proofs_kit import drift
from config.tests.stripe_kit import SECRET, deliver
from sandbox.stripe.bank import Bank
from sandbox.stripe.webhooks import event_of

TOTAL = 1_800 * NANOS_PER_CREDIT


@pytest.fixture(autouse=True)
def payments(settings: Any) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_0123456789"
    settings.STRIPE_WEBHOOK_SECRETS = [SECRET]


@pytest.fixture
def organization(db: None) -> Organization:
    return OrganizationFactory()


def bought(organization: Organization, *, code: str = "") -> tuple[Order, list[dict[str, Any]], Bank]:
    """A popular pack, paid at the simulated Stripe: the order, the events that Stripe sends, and the bank."""
    events: list[dict[str, Any]] = []
    bank = Bank(None, lambda kind, subject: events.append(event_of(kind, subject)))
    order = purchases.order(organization=organization, pack=Pack.objects.get(slug="popular"), by=None)
    customer = bank.customer({})
    price = {"currency": "usd", "unit_amount": str(order.amount_cents), "product_data": {"name": "x"}}
    metadata = {"order": str(order.public_id)}
    session = bank.checkout(
        {
            "mode": "payment",
            "customer": customer["id"],
            "client_reference_id": str(order.public_id),
            "line_items": {"0": {"quantity": "1", "price_data": price}},
            "metadata": metadata,
            "payment_intent_data": {"metadata": metadata},
        },
        "https://stripe.test",
    )
    Order.objects.filter(pk=order.pk).update(checkout_session_id=session["id"])
    order.refresh_from_db()
    bank.pay(session, code)
    return order, events, bank


def balance(organization: Organization) -> int:
    return ledger.balance_of(organization).posted


def assert_lots_agree(organization: Organization) -> None:
    account = ledger.account_of(organization)
    lots.sync(account)
    left = sum(lot.remaining for lot in account.lots.all())
    debt = sum(use.amount for use in LotUse.objects.filter(account=account, lot=None))
    assert left - debt == balance(organization)


# ---------------------------------------------------------------- a purchase


def test_a_purchase_credits_the_pack_and_its_bonus(organization: Organization) -> None:
    order, events, _ = bought(organization)
    assert {event["type"] for event in events} == {
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    }
    assert [deliver(event) for event in events] == [200, 200, 200]
    assert balance(organization) == TOTAL
    kinds = {lot.kind: lot.amount // NANOS_PER_CREDIT for lot in Lot.objects.all()}
    assert kinds == {"paid": 1_500, "bonus": 300}
    order.refresh_from_db()
    assert (order.status, order.paid_cents) == ("paid", 1_999)
    assert order.receipt_url
    assert Event.objects.get(kind="credits.purchased").data["credits"] == "1800.0000"
    assert StripeEvent.objects.filter(outcome="credited").count() == 1
    assert drift() == []


def test_a_promotion_code_lowers_the_price_and_not_the_credit(organization: Organization) -> None:
    order, events, _ = bought(organization, code="TUPPENCE10")
    for event in events:
        deliver(event)
    order.refresh_from_db()
    assert (order.paid_cents, balance(organization)) == (1_799, TOTAL)


def test_a_code_that_leaves_nothing_to_pay(organization: Organization) -> None:
    order, events, _ = bought(organization, code="FREE")
    assert [event["type"] for event in events] == ["checkout.session.completed"]
    deliver(events[0])
    order.refresh_from_db()
    assert (order.status, order.paid_cents, balance(organization)) == ("paid", 0, TOTAL)


def test_the_same_event_fifty_times_credits_once(organization: Organization) -> None:
    _, events, _ = bought(organization)
    assert [deliver(events[-1]) for _ in range(50)] == [200] * 50
    assert balance(organization) == TOTAL


@pytest.mark.django_db(transaction=True)
def test_all_events_fifty_times_at_the_same_moment_credit_once() -> None:
    organization = OrganizationFactory()
    with connection.cursor() as cursor:  # a transactional test begins without what migrations put in
        cursor.execute("SELECT count(*) FROM billing_pack")
        if cursor.fetchone()[0] == 0:
            Pack.objects.create(slug="popular", name="Popular", price_cents=1_999, credits=1_500, bonus_credits=300)
    _, events, _ = bought(organization)
    failures: list[object] = []

    def send(event: dict[str, Any]) -> None:
        try:
            if (status := deliver(event)) != 200:
                failures.append(status)
        finally:
            connection.close()

    batch = [random.Random(number).choice(events) for number in range(47)] + events
    threads = [threading.Thread(target=send, args=(event,)) for event in batch]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert balance(organization) == TOTAL
    assert StripeEvent.objects.filter(outcome="credited").count() == 1


# ---------------------------------------------------------------- who may say that something was paid


def test_nothing_without_a_secret(organization: Organization, settings: Any) -> None:
    settings.STRIPE_WEBHOOK_SECRETS = []
    _, events, _ = bought(organization)
    assert deliver(events[-1]) == 404
    assert balance(organization) == 0


@pytest.mark.parametrize(
    ("secret", "age_s"),
    [("whsec_other", 0), ("", 0), (SECRET, 400), (SECRET, -400)],
    ids=["wrong secret", "empty secret", "too old", "from the future"],
)
def test_only_stripe_and_only_now(organization: Organization, secret: str, age_s: int) -> None:
    _, events, _ = bought(organization)
    assert deliver(events[-1], secret=secret, at=int(time.time()) - age_s) == 400
    assert (balance(organization), StripeEvent.objects.count()) == (0, 0)


def test_a_live_event_is_none_of_a_test_installation(organization: Organization) -> None:
    _, events, _ = bought(organization)
    assert deliver({**events[-1], "livemode": True}) == 400
    assert balance(organization) == 0


def test_secrets_are_rotated(organization: Organization, settings: Any) -> None:
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new", SECRET]
    _, events, _ = bought(organization)
    assert deliver(events[-1]) == 200
    assert balance(organization) == TOTAL


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("amount_subtotal", 1),
        ("amount_subtotal", None),
        ("currency", "eur"),
        ("mode", "subscription"),
        ("payment_status", "unpaid"),
        ("client_reference_id", "00000000-0000-4000-8000-000000000000"),
        ("id", "cs_of_somebody_else"),
    ],
    ids=["amount", "no amount", "currency", "mode", "unpaid", "unknown order", "another checkout"],
)
def test_what_does_not_agree_with_our_order_credits_nothing(organization: Organization, name: str, value: Any) -> None:
    _, events, _ = bought(organization)
    event = events[-1]
    event["data"]["object"][name] = value
    assert deliver(event) == 200
    assert balance(organization) == 0
    assert StripeEvent.objects.get().outcome not in {"", "credited"}


def test_one_payment_pays_one_order(organization: Organization) -> None:
    _, first, _ = bought(organization)
    other, second, _ = bought(organization)
    deliver(first[-1])
    forged = second[-1]
    forged["data"]["object"]["payment_intent"] = first[-1]["data"]["object"]["payment_intent"]
    with pytest.raises(Exception, match="payment_intent"):
        deliver(forged)
    assert balance(organization) == TOTAL
    other.refresh_from_db()
    assert other.status == "open"


# ---------------------------------------------------------------- what is taken back


def everything(organization: Organization, *, is_won: bool) -> tuple[Order, list[dict[str, Any]]]:
    """A purchase, a refund of 5 dollars, and a dispute over 10 that is decided: every event of it."""
    order, events, bank = bought(organization)
    intent = events[-1]["data"]["object"]["payment_intent"]
    bank.refund({"payment_intent": intent, "amount": "500"})
    dispute = bank.dispute(bank.listed("charge")[0], 1_000)
    bank.decide(dispute, is_won=is_won)
    kinds = {"payment_intent.succeeded", "checkout.session.completed", "charge.refunded"}
    kinds |= {"charge.dispute.created", "charge.dispute.closed"}
    return order, [event for event in events if event["type"] in kinds]


@pytest.mark.parametrize("is_won", [True, False], ids=["won", "lost"])
def test_every_order_of_events_ends_in_the_same_books(organization: Organization, is_won: bool) -> None:
    lost_cents = 500 + (0 if is_won else 1_000)
    expected = TOTAL - -(-TOTAL * lost_cents // 1_999)
    for permutation in itertools.permutations(range(5)):
        one = OrganizationFactory()
        order, events = everything(one, is_won=is_won)
        for number in permutation:
            assert deliver(events[number]) == 200
        assert balance(one) == expected, [events[number]["type"] for number in permutation]
        order.refresh_from_db()
        assert (order.refunded_cents, order.disputed_cents) == (500, 0 if is_won else 1_000)
    assert_lots_agree(one)
    assert drift() == []


def test_a_full_refund_takes_paid_and_bonus_back(organization: Organization) -> None:
    order, events, bank = bought(organization)
    bank.refund({"payment_intent": events[-1]["data"]["object"]["payment_intent"]})
    for event in events:
        deliver(event)
    assert balance(organization) == 0
    assert set(Lot.objects.values_list("remaining", flat=True)) == {0}
    order.refresh_from_db()
    assert order.clawed_nanos == TOTAL


def test_a_refund_of_spent_credit_goes_below_zero_and_freezes_until_it_is_covered(organization: Organization) -> None:
    _, events, bank = bought(organization)
    for event in events:
        deliver(event)
    account = ledger.account_of(organization)
    ledger.transfer(
        debit=account,
        credit=ledger.house(AccountKind.REVENUE),
        amount=TOTAL // 2,
        kind="adjustment",
        idempotency_key="u",
    )
    bank.refund({"payment_intent": events[-1]["data"]["object"]["payment_intent"]})
    for event in events:
        deliver(event)
    account.refresh_from_db()
    assert (account.posted, account.status) == (-TOTAL // 2, Account.Status.FROZEN)
    assert_lots_agree(organization)
    _, again, _ = bought(organization)
    for event in again:
        deliver(event)
    account.refresh_from_db()
    assert (account.posted, account.status) == (TOTAL // 2, Account.Status.OPEN)
    assert_lots_agree(organization)
    assert drift() == []


def test_a_refund_that_failed_is_given_back_by_the_sweep_and_not_by_an_old_event(organization: Organization) -> None:
    order, events, bank = bought(organization)
    bank.refund({"payment_intent": events[-1]["data"]["object"]["payment_intent"], "amount": "500"})
    for event in events:
        deliver(event)
    after = balance(organization)
    deliver(event_of("charge.updated", {**bank.listed("charge")[0], "amount_refunded": 0}))
    assert balance(organization) == after
    order.refresh_from_db()
    purchases.note_refunded(order, 0, is_current=True)
    assert balance(organization) == TOTAL


def test_a_refund_that_fails_weeks_later_is_given_back(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, events, bank = bought(organization)
    bank.refund({"payment_intent": events[-1]["data"]["object"]["payment_intent"], "amount": "500"})
    for event in events:
        deliver(event)
    assert balance(organization) < TOTAL
    refund, charge = bank.listed("refund")[0], bank.listed("charge")[0]
    deliver(event_of("refund.failed", refund | {"status": "failed"}))
    assert balance(organization) < TOTAL  # an event is no word on how its payment stands
    for listed in ("sessions", "intents", "invoices", "refunds", "disputes"):
        monkeypatch.setattr(stripe_api, f"{listed}_since", lambda since: [])
    monkeypatch.setattr(stripe_api, "charges_of", lambda intent: [charge | {"amount_refunded": 0}])
    stripe_events.sweep()
    assert balance(organization) == TOTAL
    assert not StripeEvent.objects.filter(outcome=stripe_events.REFUND_FAILED).exists()


def test_a_card_that_was_declined_before_does_not_undo_a_refund(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, events, bank = bought(organization)
    paid = bank.listed("charge")[0]
    failed = {**paid, "id": "ch_declined", "status": "failed", "paid": False}
    bank.refund({"payment_intent": paid["payment_intent"]})
    for event in events:
        deliver(event)
    assert balance(organization) == 0
    monkeypatch.setattr(stripe_events.stripe_api, "session", lambda _id: bank.listed("checkout.session")[0])
    monkeypatch.setattr(stripe_events.stripe_api, "charges_of", lambda _intent: [paid, failed])
    order.refresh_from_db()
    stripe_events.pull(order)
    assert balance(organization) == 0
    order.refresh_from_db()
    assert order.refunded_cents == 1_999


def test_a_dispute_takes_back_while_money_is_withdrawn_and_no_longer(organization: Organization) -> None:
    _, events, bank = bought(organization)
    for event in events:
        deliver(event)
    dispute = bank.dispute(bank.listed("charge")[0], 1_999)

    def told(status: str) -> int:
        assert deliver(event_of("charge.dispute.updated", {**dispute, "status": status})) == 200
        return balance(organization)

    # An inquiry, which becomes a dispute, is lost, and won by an appeal; late events of before change nothing.
    stages = [
        "warning_needs_response",
        "needs_response",
        "lost",
        "appeal_under_review",
        "won",
        "lost",
        "needs_response",
    ]
    assert [told(status) for status in stages] == [TOTAL, 0, 0, 0, TOTAL, TOTAL, TOTAL]
    assert drift() == []


CORRUPTIONS = [
    ("UPDATE billing_lot SET remaining = remaining - 1 WHERE kind = 'paid'", {"lots", "lot_rows"}),
    (
        "UPDATE billing_lot SET remaining = remaining + CASE kind WHEN 'paid' THEN 1 ELSE -1 END "
        "WHERE kind IN ('paid', 'promotional')",
        {"lot_rows"},
    ),
    ("UPDATE billing_lot SET amount = amount + 1, remaining = remaining + 1 WHERE kind = 'paid'", {"lots", "lot_rows"}),
    ("UPDATE billing_lot SET account_id = (SELECT min(id) FROM billing_account)", {"lots", "lot_rows"}),
    ("UPDATE billing_lotuse SET amount = amount + 1", {"lot_rows"}),
    ("UPDATE billing_order SET clawed_nanos = clawed_nanos + 1", {"orders", "clawed_back"}),
    ("UPDATE billing_order SET refunded_cents = 0", {"clawed_back"}),
    ("UPDATE billing_order SET disputed_cents = 0", {"clawed_back"}),
    ("UPDATE billing_order SET paid_cents = paid_cents + 1", {"clawed_back"}),
    ("UPDATE billing_order SET credits = credits + 1", {"orders", "clawed_back"}),
    ("UPDATE billing_order SET status = 'open'", {"orders", "clawed_back"}),
    ("UPDATE billing_dispute SET state = 2", {"clawed_back"}),
    ("UPDATE billing_redeemcode SET uses = 0", {"codes"}),
]


def test_every_figure_that_is_changed_by_hand_is_found(organization: Organization) -> None:
    _, events = everything(organization, is_won=False)
    for event in events:
        deliver(event)
    lots.sync(ledger.account_of(organization))
    codes.redeem(organization=organization, code=codes.create(credits=5, max_uses=2), by=None)
    assert drift() == []
    for statement, found in CORRUPTIONS:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
            assert {one.split()[0] for one in drift()} == found, statement
            transaction.set_rollback(True)
    assert drift() == []


# ---------------------------------------------------------------- lost webhooks


def test_the_sweep_finds_what_webhooks_lost(organization: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    order, events, bank = bought(organization)
    bank.refund({"payment_intent": events[-1]["data"]["object"]["payment_intent"], "amount": "500"})
    bank.dispute(bank.listed("charge")[0], 1_000)
    api = stripe_events.stripe_api

    def listed(kind: str) -> Any:
        return lambda _since: iter([bank.shown(row) for row in bank.listed(kind)])

    monkeypatch.setattr(api, "sessions_since", listed("checkout.session"))
    monkeypatch.setattr(api, "refunds_since", listed("refund"))
    monkeypatch.setattr(api, "disputes_since", listed("dispute"))
    monkeypatch.setattr(api, "intents_since", listed("payment_intent"))
    monkeypatch.setattr(api, "invoices_since", listed("invoice"))
    monkeypatch.setattr(api, "charges_of", lambda intent: bank.listed("charge", payment_intent=intent))
    assert stripe_events.sweep() == 4
    expected = TOTAL - -(-TOTAL * 1_500 // 1_999)
    assert balance(organization) == expected
    stripe_events.sweep()
    for event in events:
        deliver(event)
    assert balance(organization) == expected
    assert Transfer.objects.filter(group=order.public_id).count() == 4


def test_an_expired_checkout_closes_its_order(organization: Organization) -> None:
    order = purchases.order(organization=organization, pack=Pack.objects.get(slug="basic"), by=None)
    session = {"id": "cs_1", "client_reference_id": str(order.public_id), "mode": "payment", "status": "expired"}
    assert deliver(event_of("checkout.session.expired", session)) == 200
    order.refresh_from_db()
    assert order.status == "expired"


def test_events_that_nobody_needs_are_kept_and_answered(organization: Organization) -> None:
    assert deliver(event_of("customer.updated", {"id": "cus_1"})) == 200
    assert StripeEvent.objects.get().outcome == "not needed"
    assert settings.STRIPE_WEBHOOK_SECRETS == [SECRET]


def test_the_newest_shape_of_each_object_is_kept_for_staff(organization: Organization, admin_client: Client) -> None:
    _, events, bank = bought(organization)
    bank.refund({"payment_intent": events[-1]["data"]["object"]["payment_intent"], "amount": "500"})
    refunded = next(event for event in events if event["type"] == "charge.refunded")
    refunded["created"] += 5
    for event in [refunded, *events]:  # the refund comes first
        assert deliver(event) == 200
    charge = StripeObject.objects.get(kind="charge")
    assert charge.data["amount_refunded"] == 500
    assert {one.kind for one in StripeObject.objects.all()} >= {"charge", "payment_intent", "checkout.session"}
    found = admin_client.get("/admin/billing/stripeobject/", {"q": charge.stripe_id}).content.decode()
    assert charge.stripe_id in found
    paid = Lot.objects.get(kind=Lot.Kind.PAID)
    opened = admin_client.get(f"/admin/billing/lot/{paid.pk}/change/").content.decode()
    assert f"{paid.amount - paid.remaining} n$ refund" in opened
