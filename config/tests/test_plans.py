"""Subscriptions: begun, renewed, refunded and ended at the simulated Stripe, through Stripe's own client."""

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import Event, Organization, Role
from accounts.tests.factories import MembershipFactory, OrganizationFactory
from billing import ledger, purchases, stripe_api, stripe_events, stripe_plans, stripe_proof, subscriptions
from billing.models import Lot, Order, Plan, StripeEvent, Subscription
from billing.money import NANOS_PER_CREDIT
from billing.tests.proofs_kit import drift
from config.tests.stripe_kit import deliver, deliver_all, running
from sandbox.stripe import plans as stripe_side
from sandbox.stripe.app import Stripe

MONTH = 5_800 * NANOS_PER_CREDIT


@pytest.fixture
def stripe(settings: Any, db: None) -> Iterator[Stripe]:
    with running(settings) as started:
        yield started


@pytest.fixture
def organization(db: None) -> Organization:
    return OrganizationFactory()


def begun(organization: Organization, stripe: Stripe, *, code: str = "") -> tuple[Subscription, dict[str, Any]]:
    """The Team plan, paid at Stripe, whose events wait: our row and Stripe's."""
    made = subscriptions.begin(organization=organization, plan=Plan.objects.get(slug="team"), by=None)
    stripe_api.subscribe(made)
    made.refresh_from_db()
    stripe.bank.pay(stripe.bank.get(str(made.checkout_session_id), "checkout.session"), code)
    return made, stripe.bank.listed("subscription")[0]


def balance(organization: Organization) -> int:
    return ledger.balance_of(organization).posted


def test_a_plan_credits_its_month_and_the_next(organization: Organization, stripe: Stripe) -> None:
    ours, theirs = begun(organization, stripe)
    assert "invoice.paid" in deliver_all(stripe)
    ours.refresh_from_db()
    assert (ours.status, ours.stripe_id, balance(organization)) == ("active", theirs["id"], MONTH)
    assert Lot.objects.get().kind == "plan"
    order = Order.objects.get()
    assert (order.paid_cents, order.status, order.title) == (4_900, "paid", "Team plan")
    assert order.payment_intent_id is not None
    assert "/invoices/" in order.receipt_url
    stripe_side.renew(stripe.bank, theirs)
    deliver_all(stripe)
    assert balance(organization) == 2 * MONTH
    assert Order.objects.count() == 2
    assert drift() == []


def test_every_order_of_the_first_events_ends_in_the_same_books(organization: Organization, stripe: Stripe) -> None:
    kinds = {
        "customer.subscription.created",
        "customer.subscription.updated",
        "invoice.paid",
        "invoice_payment.paid",
        "charge.refunded",
    }
    for number in range(120):
        one = OrganizationFactory()
        ours, _ = begun(one, stripe)
        stripe.bank.refund({"payment_intent": stripe.bank.listed("payment_intent")[0]["id"], "amount": "490"})
        events, stripe.courier.sent = [e for e in stripe.courier.sent if e["type"] in kinds], []
        order = list(itertools.permutations(range(5)))[number]
        for index in order:
            assert deliver(events[index]) == 200
        told = [events[index]["type"] for index in order]
        assert balance(one) == MONTH - MONTH // 10, told
        ours.refresh_from_db()
        assert ours.status == "active", told
    assert drift() == []


def test_the_same_events_again_credit_nothing(organization: Organization, stripe: Stripe) -> None:
    begun(organization, stripe)
    events = list(stripe.courier.sent)
    for event in events * 3:
        assert deliver(event) == 200
    assert balance(organization) == MONTH
    other_id = [{**event, "id": f"{event['id']}x"} for event in events]
    for event in other_id:
        assert deliver(event) == 200
    assert balance(organization) == MONTH


def test_a_promotion_code_lowers_the_price_and_not_the_credit(organization: Organization, stripe: Stripe) -> None:
    begun(organization, stripe, code="TUPPENCE10")
    deliver_all(stripe)
    assert (Order.objects.get().paid_cents, balance(organization)) == (4_410, MONTH)


def test_a_trial_credits_nothing_until_it_is_paid(organization: Organization, stripe: Stripe) -> None:
    Plan.objects.filter(slug="team").update(trial_days=7)
    ours, theirs = begun(organization, stripe)
    deliver_all(stripe)
    ours.refresh_from_db()
    assert (ours.status, balance(organization), Order.objects.count()) == ("trialing", 0, 0)
    stripe_side.renew(stripe.bank, theirs)
    deliver_all(stripe)
    ours.refresh_from_db()
    assert (ours.status, balance(organization)) == ("active", MONTH)


def test_a_declined_month_is_past_due_and_credits_nothing(organization: Organization, stripe: Stripe) -> None:
    ours, theirs = begun(organization, stripe)
    deliver_all(stripe)
    stripe_side.renew(stripe.bank, theirs, is_declined=True)
    deliver_all(stripe)
    ours.refresh_from_db()
    assert (ours.status, balance(organization)) == ("past_due", MONTH)
    assert Event.objects.filter(kind="plan.changed").latest("pk").data["status"] == "past_due"


def test_an_older_state_changes_nothing(organization: Organization, stripe: Stripe) -> None:
    ours, _ = begun(organization, stripe)
    deliver_all(stripe)
    now = timezone.now()
    state = {"period_ends_at": None, "cancel_at_period_end": False}
    assert subscriptions.note(ours, status="past_due", told_at=now + timedelta(seconds=5), **state)
    assert not subscriptions.note(ours, status="active", told_at=now, **state)
    assert not subscriptions.note(ours, status="incomplete", told_at=now + timedelta(seconds=9), **state)
    assert subscriptions.note(ours, status="canceled", told_at=now + timedelta(seconds=9), **state)
    assert not subscriptions.note(ours, status="active", told_at=now + timedelta(seconds=20), **state)


def test_credit_of_a_plan_expires_where_the_plan_says_so(organization: Organization, stripe: Stripe) -> None:
    Plan.objects.filter(slug="team").update(credit_days=40)
    begun(organization, stripe)
    deliver_all(stripe)
    expires_at = Lot.objects.get().expires_at
    assert expires_at is not None
    assert timedelta(days=39) < expires_at - timezone.now() <= timedelta(days=40)


@pytest.mark.parametrize(("name", "value"), [("subtotal", 1), ("currency", "eur"), ("subtotal", None)])
def test_an_invoice_that_does_not_agree_credits_nothing(
    organization: Organization, stripe: Stripe, name: str, value: Any
) -> None:
    begun(organization, stripe)
    event = next(one for one in stripe.courier.sent if one["type"] == "invoice.paid")
    event["data"]["object"][name] = value
    assert deliver(event) == 200
    assert (balance(organization), Order.objects.count()) == (0, 0)
    assert StripeEvent.objects.get().outcome.startswith("mismatch")


def test_a_full_refund_of_a_month_takes_it_back(organization: Organization, stripe: Stripe) -> None:
    begun(organization, stripe)
    deliver_all(stripe)
    stripe_api.refund(Order.objects.get(), cents=4_900)
    deliver_all(stripe)
    assert balance(organization) == 0
    assert drift() == []


def test_the_sweep_finds_what_webhooks_lost(organization: Organization, stripe: Stripe) -> None:
    ours, _ = begun(organization, stripe)
    stripe_events.sweep()
    ours.refresh_from_db()
    assert balance(organization) == MONTH
    stripe_api.refund(Order.objects.get(), cents=2_450)
    stripe_events.sweep()
    assert balance(organization) == MONTH // 2
    ours.refresh_from_db()
    assert ours.status == "active"


def test_the_proof_finds_a_month_that_was_not_credited(
    organization: Organization, stripe: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stripe_proof, "SETTLING", timedelta(seconds=-5))
    begun(organization, stripe)
    assert [one.check for one in stripe_proof.check()] == ["stripe_paid"]
    deliver_all(stripe)
    assert stripe_proof.check() == []
    Order.objects.update(paid_cents=1)
    assert [one.check for one in stripe_proof.check()] == ["stripe_amount"]


# ---------------------------------------------------------------- pages


def test_the_pages_from_subscribing_to_the_end(organization: Organization, stripe: Stripe, client: Client) -> None:
    client.force_login(MembershipFactory(organization=organization, role=Role.OWNER).user)
    page = reverse("billing:plan", args=[organization.slug])
    assert "Subscribe to the Team plan" in client.get(page).content.decode()
    answer = client.post(reverse("billing:subscribe", args=[organization.slug]), {"plan": "team"})
    assert answer.status_code == 302
    assert answer["location"].startswith(stripe_api.settings.STRIPE_API_BASE)
    session = stripe.bank.listed("checkout.session")[0]
    stripe.bank.pay(session)
    back = client.get(session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"]), follow=True)
    assert "You are on the Team plan." in back.content.decode()
    assert balance(organization) == MONTH
    again = client.post(reverse("billing:subscribe", args=[organization.slug]), {"plan": "plus"}, follow=True)
    assert "You have a plan already" in again.content.decode()
    cancel = reverse("billing:plan-cancel", args=[organization.slug])
    assert "Cancel the Team plan?" in client.get(cancel).content.decode()
    assert "Ends " in client.post(cancel, follow=True).content.decode()
    resumed = client.post(reverse("billing:plan-resume", args=[organization.slug]), follow=True)
    assert "Renews " in resumed.content.decode()
    assert "Team" in client.get(reverse("billing:billing", args=[organization.slug])).content.decode()
    client.post(cancel)
    stripe_side.renew(stripe.bank, stripe.bank.listed("subscription")[0])
    deliver_all(stripe)
    assert "Subscribe to the Plus plan" in client.get(page).content.decode()
    assert balance(organization) == MONTH


def test_an_abandoned_checkout_lets_one_subscribe_again(organization: Organization, stripe: Stripe) -> None:
    ours = subscriptions.begin(organization=organization, plan=Plan.objects.get(slug="team"), by=None)
    stripe_api.subscribe(ours)
    ours.refresh_from_db()
    stripe.bank.expire(stripe.bank.get(str(ours.checkout_session_id), "checkout.session"))
    deliver_all(stripe)
    ours.refresh_from_db()
    assert ours.status == "canceled"
    assert subscriptions.current(organization) is None


def test_an_order_is_of_a_pack_or_of_a_plan(organization: Organization, stripe: Stripe) -> None:
    begun(organization, stripe)
    deliver_all(stripe)
    assert purchases.order_of_invoice(Subscription.objects.get(), str(Order.objects.get().invoice_id))
    assert Order.objects.count() == 1


def test_the_plan_of_an_organization_that_is_being_deleted_ends_with_its_month(
    organization: Organization, stripe: Stripe
) -> None:
    ours, theirs = begun(organization, stripe)
    deliver_all(stripe)
    assert stripe_plans.end_those_of_closed_organizations() == 0
    Organization.objects.filter(pk=organization.pk).update(status=Organization.Status.CLOSING)
    assert [stripe_plans.end_those_of_closed_organizations() for _ in range(2)] == [1, 0]
    ours.refresh_from_db()
    assert ours.cancel_at_period_end
    assert stripe.bank.get(theirs["id"], "subscription")["cancel_at_period_end"]
