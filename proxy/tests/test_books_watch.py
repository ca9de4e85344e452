"""A drift freezes the account and opens one incident, which ends when the books are right again."""

from typing import Any

import pytest

from accounts.tests.factories import OrganizationFactory
from billing import ledger, purchases, stripe_api, stripe_proof
from billing.models import Account, Order, Pack
from proxy import books_watch
from status.models import Incident

PACK = {"slug": "p", "name": "P", "price_cents": 1_000, "credits": 10}


@pytest.mark.django_db(transaction=True)
def test_a_drift_freezes_and_is_told_once_until_it_is_gone() -> None:
    bad, good = ledger.account_of(OrganizationFactory()), ledger.account_of(OrganizationFactory())
    assert books_watch.watch() == 0
    Account.objects.filter(pk=bad.pk).update(held=5)
    assert books_watch.watch() > 0
    assert books_watch.watch() > 0
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.status, good.status) == (Account.Status.FROZEN, Account.Status.OPEN)
    assert Incident.objects.get(title=books_watch.TITLE).resolved_at is None
    Account.objects.filter(pk=bad.pk).update(held=0)
    assert books_watch.watch() == 0
    assert Incident.objects.get(title=books_watch.TITLE).resolved_at is not None
    bad.refresh_from_db()
    assert bad.status == Account.Status.OPEN


@pytest.mark.django_db
def test_what_stripe_says_otherwise_is_found(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_0123456789"
    organization, pack = OrganizationFactory(), Pack.objects.create(**PACK)
    orders = [purchases.order(organization=organization, pack=pack, by=None) for _ in range(4)]
    sessions = []
    for number, order in enumerate(orders):
        order.checkout_session_id = f"cs_{number}"
        order.save()
        session = {"id": f"cs_{number}", "created": 0, "payment_status": "paid", "amount_total": 1_000}
        sessions.append(session)
        payment = purchases.Payment(f"cs_{number}", f"pi_{number}", 1_000, 1_000, "usd")
        if number != 1:
            purchases.pay(order, payment)
    sessions[2]["amount_total"] = 900
    monkeypatch.setattr(stripe_api, "sessions_since", lambda _since: iter(sessions))
    refunds = {"pi_0": 0, "pi_3": 400}
    monkeypatch.setattr(stripe_api, "charges_of", lambda intent: [{"amount_refunded": refunds[intent]}])
    monkeypatch.setattr(stripe_api, "invoices_since", lambda _since: iter([]))
    found = {(drift.check, drift.subject) for drift in stripe_proof.check()}
    assert found == {
        ("stripe_paid", str(orders[1].public_id)),
        ("stripe_amount", str(orders[2].public_id)),
        ("stripe_refunded", str(orders[3].public_id)),
    }
    assert Order.objects.filter(status="paid").count() == 3
