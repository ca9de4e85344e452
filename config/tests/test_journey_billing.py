"""Buying credit in a real browser at the simulated Stripe, through its really signed events; and giving it back."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from config.tests.chromium import PATIENCE_MS, complaints_of
from config.tests.processes import Installation, Service, wait_for
from config.tests.test_journey_browser import sign_up

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("billing")]

CREDIT = 10_000_000


@pytest.fixture(scope="module")
def shop(installation: Installation) -> tuple[Service, Service]:
    return installation.shop(DEBUG="1")


@pytest.fixture
def page(browser: Browser, shop: tuple[Service, Service]) -> Iterator[Page]:
    context = browser.new_context(base_url=shop[0].url, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    made = context.new_page()
    problems = complaints_of(made)
    yield made
    context.close()
    assert [one for one in problems if "402" not in one and "/favicon.ico" not in one] == []


def _keep_picture(page: Page, name: str) -> None:
    if directory := os.environ.get("SCREENSHOTS"):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.screenshot(path=Path(directory) / f"{name}-{page.viewport_size['width']}-{scheme}.png", full_page=True)  # type: ignore[index]


def _posted(site: Installation, organization: int) -> int:
    found: int = site.query(
        "SELECT posted FROM billing_account WHERE organization_id = %s AND kind = 'customer'", organization
    )[0]["posted"]
    return found


def test_the_popular_pack_is_bought_shown_and_refunded(page: Page, site: Installation) -> None:
    slug = sign_up(page, "buyer@example.com")
    organization = site.query("SELECT id FROM accounts_organization WHERE slug = %s", slug)[0]["id"]
    page.get_by_role("link", name="Billing").click()
    _keep_picture(page, "billing-new")
    page.get_by_role("button", name="Buy the Popular pack").click()
    expect(page.get_by_role("heading", name="Popular pack: 1,800 credits")).to_be_visible()
    page.get_by_role("button", name="Pay with a card that is declined").click()
    expect(page.get_by_text("Your card was declined")).to_be_visible()
    page.get_by_role("button", name="Pay 19.99 USD").click()
    expect(page.get_by_text("1,800 credits have been added for $19.99")).to_be_visible()
    _keep_picture(page, "checkout-done")
    wait_for(lambda: _posted(site, organization) == 1_800 * CREDIT, timeout_s=20, what="the credit")
    page.get_by_role("link", name="Billing").first.click()
    expect(page.get_by_text("1,800.00").first).to_be_visible()
    expect(page.get_by_role("row", name="Popular")).to_contain_text("Paid")
    _keep_picture(page, "billing-bought")
    page.set_viewport_size({"width": 390, "height": 844})
    width = "document.documentElement.scrollWidth"
    wait_for(lambda: page.evaluate(width) <= 390, timeout_s=20, what="a page that fits a phone")
    _keep_picture(page, "billing-bought")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.get_by_role("link", name="Receipt").click()
    expect(page.get_by_text("Paid: 19.99 USD")).to_be_visible()
    page.goto(f"/o/{slug}/billing/transfers/")
    expect(page.get_by_role("row", name="Purchase")).to_contain_text("1,500.0000")
    expect(page.get_by_role("row", name="Bonus")).to_contain_text("300.0000")

    site.query("UPDATE accounts_user SET is_staff = true, is_superuser = true WHERE email = 'buyer@example.com'")
    page.goto("/admin/billing/order/")
    page.get_by_role("checkbox").nth(1).check()
    page.get_by_label("Action:").select_option("refund")
    page.get_by_role("button", name="Run").or_(page.get_by_role("button", name="Go")).first.click()
    page.get_by_role("button", name="Refund 1 orders").click()
    wait_for(lambda: _posted(site, organization) == 0, timeout_s=10, what="the credit taken back")
    page.goto(f"/o/{slug}/billing/")
    expect(page.get_by_text("Refunded $19.99")).to_be_visible()
    page.goto("/admin/billing/order/")
    page.locator("th.field-public_id a").first.click()
    expect(
        page.get_by_text("checkout.session.completed").or_(page.get_by_text("payment_intent.succeeded")).first
    ).to_be_visible()
    assert site.clerk.reconcile_command()


def test_a_canceled_checkout_a_code_and_a_transfer(page: Page, site: Installation) -> None:
    slug = sign_up(page, "giver@example.com")
    other = site.clerk.organization(name="taker")
    page.goto(f"/o/{slug}/billing/")
    page.get_by_role("button", name="Buy the Starter pack").click()
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_text("The purchase was canceled")).to_be_visible()
    code = site.clerk.code(credits_=50)
    page.get_by_role("textbox", name="Code").fill(code)
    page.get_by_role("button", name="Redeem").click()
    expect(page.get_by_text("Added 50.0000 credits.")).to_be_visible()
    page.get_by_role("textbox", name="To organization").fill(other["slug"])
    page.locator("#move").get_by_role("spinbutton", name="Credits").fill("20")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_text("Send 20 credits to taker?")).to_be_visible()
    page.get_by_role("button", name="Send credit").click()
    expect(page.get_by_text("Sent 20.0000 credits to taker.")).to_be_visible()
    assert _posted(site, other["id"]) == 20 * CREDIT


def test_a_purchase_survives_webhooks_that_never_come(
    page: Page, site: Installation, shop: tuple[Service, Service]
) -> None:
    """The success page asks Stripe itself; and a dispute that is lost takes the credit back."""
    slug = sign_up(page, "unheard@example.com")
    organization = site.query("SELECT id FROM accounts_organization WHERE slug = %s", slug)[0]["id"]
    page.goto(f"/o/{slug}/billing/")
    page.get_by_role("button", name="Buy the Pro pack").click()
    page.get_by_label("Promotion code").fill("TUPPENCE10")
    page.get_by_role("button", name="Pay 39.99 USD").click()
    expect(page.get_by_text("4,500 credits have been added for $35.99")).to_be_visible()
    intent = site.query(
        "SELECT payment_intent_id FROM billing_order WHERE organization_id = %s AND status = 'paid'", organization
    )[0]["payment_intent_id"]
    made = httpx.post(f"{shop[1].url}/__sandbox/dispute", data={"payment_intent": intent}, timeout=10).json()
    wait_for(lambda: _posted(site, organization) == 0, timeout_s=10, what="the disputed credit")
    httpx.post(f"{shop[1].url}/__sandbox/won", data={"dispute": made["id"]}, timeout=10)
    wait_for(lambda: _posted(site, organization) == 4_500 * CREDIT, timeout_s=10, what="the credit given back")


def test_a_plan_and_automatic_top_up(page: Page, site: Installation) -> None:
    slug = sign_up(page, "planner@example.com")
    organization = site.query("SELECT id FROM accounts_organization WHERE slug = %s", slug)[0]["id"]
    page.goto(f"/o/{slug}/billing/")
    page.get_by_role("link", name="See plans").click()
    _keep_picture(page, "plans")
    page.get_by_role("button", name="Subscribe to the Plus plan").click()
    expect(page.get_by_role("heading", name="Plus: 1,000 credits a month")).to_be_visible()
    page.get_by_role("button", name="Pay 9.00 USD").click()
    expect(page.get_by_text("You are on the Plus plan.")).to_be_visible()
    wait_for(lambda: _posted(site, organization) == 1_000 * CREDIT, timeout_s=10, what="the month's credit")
    _keep_picture(page, "plan")
    page.goto(f"/o/{slug}/billing/")
    page.get_by_role("button", name="Invoices and cards").click()
    page.get_by_role("button", name="Let a month pass", exact=True).click()
    wait_for(lambda: _posted(site, organization) == 2_000 * CREDIT, timeout_s=10, what="the next month's credit")
    page.get_by_role("link", name="Back").click()
    page.get_by_role("link", name="See the plan").click()
    page.get_by_role("link", name="Cancel the plan").click()
    page.get_by_role("button", name="Cancel the plan").click()
    expect(page.get_by_text("The plan ends with its month.")).to_be_visible()

    page.goto(f"/o/{slug}/billing/")
    page.get_by_role("link", name="Set up").click()
    page.get_by_label("Buy").select_option("basic")
    page.get_by_label("When fewer are left than").fill("2100")
    page.get_by_label("At most in a month").fill("10")
    _keep_picture(page, "top-up")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Credit is bought by itself from now on.")).to_be_visible()
    _keep_picture(page, "billing-plan")
    site.clerk.top_up(payments=site.payments)
    wait_for(lambda: _posted(site, organization) == 2_550 * CREDIT, timeout_s=10, what="the pack bought by itself")
    site.clerk.top_up(payments=site.payments)
    page.reload()
    expect(page.get_by_text("bought by itself")).to_be_visible()
    assert _posted(site, organization) == 2_550 * CREDIT
    assert site.clerk.reconcile_command()
