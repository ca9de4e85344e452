"""Automatic top-up at the simulated Stripe, through Stripe's own client."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Event, Organization, Role
from accounts.tests.factories import MembershipFactory, OrganizationFactory
from billing import ledger, stripe_api, stripe_proof, top_up
from billing.models import BillingProfile, Order, Pack
from billing.money import NANOS_PER_CREDIT
from billing.tests.proofs_kit import drift
from config.tests.stripe_kit import deliver_all, running
from sandbox.stripe.app import Stripe

PACK = 550 * NANOS_PER_CREDIT


@pytest.fixture
def stripe(settings: Any, db: None) -> Iterator[Stripe]:
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    with running(settings) as started:
        yield started


@pytest.fixture
def organization(db: None) -> Organization:
    organization = OrganizationFactory()
    MembershipFactory(organization=organization, role=Role.OWNER, user__email="payer@example.com")
    return organization


def with_rule(organization: Organization, stripe: Stripe, *, cap_cents: int = 2_000) -> dict[str, Any]:
    """An organization whose card is saved, and that buys the basic pack below 100 credits; the card."""
    card = stripe.bank.save_card(stripe_api.customer_of(organization))
    top_up.set_rule(
        organization=organization,
        pack=Pack.objects.get(slug="basic"),
        below_nanos=100 * NANOS_PER_CREDIT,
        cap_cents=cap_cents,
        by=None,
    )
    return card


def balance(organization: Organization) -> int:
    return ledger.balance_of(organization).posted


def spend(organization: Organization) -> None:
    account = ledger.account_of(organization)
    account.refresh_from_db()
    ledger.transfer(
        debit=account,
        credit=ledger.house("revenue"),
        amount=account.posted,
        kind="adjustment",
        idempotency_key=f"spent-{organization.pk}-{timezone.now()}",
    )


def test_a_pack_is_bought_below_the_threshold_and_not_above(organization: Organization, stripe: Stripe) -> None:
    with_rule(organization, stripe)
    assert top_up.run() == 1
    assert balance(organization) == PACK
    assert top_up.run() == 0
    deliver_all(stripe)
    assert (balance(organization), Order.objects.count()) == (PACK, 1)
    order = Order.objects.get()
    assert (order.is_automatic, order.status, order.paid_cents) == (True, "paid", 799)
    assert drift() == []


def test_the_monthly_cap_holds_and_the_next_month_begins_anew(organization: Organization, stripe: Stripe) -> None:
    with_rule(organization, stripe, cap_cents=1_600)
    for expected in (1, 1, 0):
        assert top_up.run() == expected
        spend(organization) if expected else None
    Order.objects.update(created_at=timezone.now().replace(day=1) - timedelta(days=1))
    assert top_up.run() == 1


def test_a_declined_card_switches_it_off_and_says_so(organization: Organization, stripe: Stripe) -> None:
    with_rule(organization, stripe)["declines"] = True
    assert top_up.run() == 0
    profile = BillingProfile.objects.get()
    assert (profile.top_up_pack, profile.top_up_problem) == (None, "The card was declined.")
    assert Order.objects.get().status == "canceled"
    assert Event.objects.get(kind="credits.top_up_failed").data == {"problem": "The card was declined."}
    assert mail.outbox[-1].bcc == ["payer@example.com"]
    assert top_up.run() == 0
    assert balance(organization) == 0


def test_a_run_that_was_cut_off_goes_on_with_the_same_payment(
    organization: Organization, stripe: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_rule(organization, stripe)
    charge = stripe_api.charge_saved_card

    def cut(order: Order, card: str) -> dict[str, Any]:
        charge(order, card)
        raise stripe_api.StripeUnavailable("cut")

    monkeypatch.setattr(stripe_api, "charge_saved_card", cut)
    assert top_up.run() == 0
    assert Order.objects.get().status == "open"
    monkeypatch.setattr(stripe_api, "charge_saved_card", charge)
    assert top_up.run() == 1
    assert len(stripe.bank.listed("payment_intent")) == 1
    assert balance(organization) == PACK


def test_the_event_alone_credits_it_too(
    organization: Organization, stripe: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_rule(organization, stripe)
    charge = stripe_api.charge_saved_card

    def cut(order: Order, card: str) -> dict[str, Any]:
        charge(order, card)
        raise stripe_api.StripeUnavailable("cut")

    monkeypatch.setattr(stripe_api, "charge_saved_card", cut)
    top_up.run()
    deliver_all(stripe)
    assert balance(organization) == PACK
    assert top_up.run() == 0


def test_the_proof_knows_automatic_orders(
    organization: Organization, stripe: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripe_proof, "SETTLING", timedelta(seconds=-5))
    with_rule(organization, stripe)
    top_up.run()
    assert stripe_proof.check() == []
    Order.objects.update(paid_cents=1)
    assert [one.check for one in stripe_proof.check()] == ["stripe_amount"]


def test_the_page_sets_and_stops_it(organization: Organization, stripe: Stripe, client: Client) -> None:
    client.force_login(organization.memberships.get().user)
    page = reverse("billing:top-up", args=[organization.slug])
    assert client.get(page).status_code == 200
    form = {"pack": "basic", "below": "100", "cap": "20"}
    refused = client.post(page, form)
    assert refused.status_code == 422
    assert "There is no saved card" in refused.content.decode()
    stripe.bank.save_card(stripe_api.customer_of(organization))
    assert "does not pay for the pack once" in client.post(page, {**form, "cap": "5"}).content.decode()
    done = client.post(page, form, follow=True).content.decode()
    assert "Saved. Credit is bought by itself from now on." in done
    assert "up to $20.00 in a month" in done
    profile = BillingProfile.objects.get()
    assert (profile.top_up_below_nanos, profile.top_up_cap_cents) == (100 * NANOS_PER_CREDIT, 2_000)
    client.post(page, {"stop": "1"})
    profile.refresh_from_db()
    assert profile.top_up_pack is None
