"""Inviting and accepting in real browsers: two people, a mail between them; then exporting, and every page's shape."""

import re
import secrets
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from config.tests.chromium import LOOKS
from config.tests.processes import Installation, Service
from config.tests.test_browser import PASSWORD, Visitor, _keep_picture, _problems, _visitor

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("team")]


@pytest.fixture(scope="module")
def web(installation: Installation) -> Service:
    """Mail goes to its log."""
    return installation.web(DEBUG="1", EMAIL_URL="console:")


@pytest.fixture
def meet(browser: Browser, web: Service) -> Iterator[Callable[..., Visitor]]:
    """Visitors, each with a browser of their own."""
    made = []

    def someone(width: int = 1280, **options: Any) -> Visitor:
        context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True, **options)
        made.append(_visitor(context, web))
        return made[-1]

    yield someone
    for visitor in made:
        visitor.page.context.close()
        assert visitor.complaints == []


def _sign_up(visitor: Visitor, name: str) -> None:
    visitor.email = f"{name}-{secrets.token_hex(4)}@example.com"
    visitor.go("/accounts/signup/")
    visitor.page.get_by_label("Email").fill(visitor.email)
    visitor.page.get_by_label("Password").fill(PASSWORD)
    visitor.page.get_by_role("button", name="Create account").click()
    visitor.page.wait_for_url("**/o/*/")
    visitor.slug = visitor.page.url.rstrip("/").rpartition("/")[2]


def _invite(page: Page, email: str, role: str = "developer") -> None:
    page.get_by_role("link", name="Team").click()
    page.get_by_label("Email").fill(email)
    page.get_by_label("Role", exact=True).select_option(role)
    page.get_by_role("button", name="Send invitation").click()
    expect(page.get_by_text(f"Sent an invitation to {email}")).to_be_visible()


def _mailed_link(web: Service, email: str) -> str:
    """The path of the newest invitation to `email`, from the mail as it was sent."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        _, found, rest = web.log.read_text(errors="replace").rpartition(f"To: {email}")
        text = rest.replace("=\n", "").replace("=3D", "=")  # long lines are folded: quoted-printable
        link = re.search(r"https?://[^/\s]+(/invitations/\S+)", text) if found else None
        if link:
            return link[1]
        time.sleep(0.1)
    raise AssertionError(f"no mail to {email}")


def test_somebody_new_is_invited_signs_up_and_works_along(meet: Callable[..., Visitor], web: Service) -> None:
    ada, bob = meet(), meet(390)
    _sign_up(ada, "ada")
    bob.email = f"bob-{secrets.token_hex(4)}@example.com"
    _invite(ada.page, bob.email)

    bob.go(_mailed_link(web, bob.email))
    expect(bob.page.get_by_role("heading", name="Join")).to_be_visible()
    bob.page.get_by_role("link", name="Create an account").click()
    expect(bob.page.get_by_label("Email")).to_have_value(bob.email)
    bob.page.get_by_label("Password").fill(PASSWORD)
    bob.page.get_by_role("button", name="Create account").click()
    bob.page.get_by_role("button", name="Accept").click()
    bob.page.wait_for_url(f"**/o/{ada.slug}/")
    bob.go(f"/o/{ada.slug}/keys/")
    expect(bob.page.get_by_role("link", name="Create key")).to_be_visible()
    bob.go(f"/o/{ada.slug}/audit/")
    expect(bob.page.get_by_role("heading", name="Not allowed")).to_be_visible()
    bob.complaints.clear()  # Chromium tells of every 403

    page = ada.page
    page.reload()
    expect(page.get_by_text("Waits")).to_have_count(0)
    page.get_by_label(f"Role of {bob.email}").select_option("viewer")
    page.get_by_role("button", name=f"Save the role of {bob.email}").click()
    expect(page.get_by_text(f"{bob.email} is viewer now.")).to_be_visible()
    page.get_by_role("link", name=f"Remove {bob.email}").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_text(f"Removed {bob.email}.")).to_be_visible()
    page.get_by_role("link", name="Audit log").click()
    expect(page.locator("#rows")).to_contain_text("invitation.accept")
    page.get_by_label("What").select_option("member.remove")
    expect(page.locator("#rows tbody tr")).to_have_count(1)


def test_somebody_with_an_account_signs_in_and_accepts(meet: Callable[..., Visitor], web: Service) -> None:
    ada, eve = meet(), meet()
    _sign_up(eve, "eve")
    eve.page.locator("aside footer summary").click()
    eve.page.get_by_role("button", name="Sign out").click()
    eve.page.wait_for_url(f"{web.url}/")
    _sign_up(ada, "ada")
    _invite(ada.page, eve.email, "billing")
    eve.go(_mailed_link(web, eve.email))
    eve.page.get_by_role("main").get_by_role("link", name="Sign in").click()
    eve.page.get_by_label("Email").fill(eve.email)
    eve.page.get_by_label("Password").fill(PASSWORD)
    eve.page.get_by_role("main").get_by_role("button", name="Sign in", exact=True).click()
    eve.page.get_by_role("button", name="Accept").click()
    eve.page.wait_for_url(f"**/o/{ada.slug}/")
    eve.page.locator("aside header summary").click()
    expect(eve.page.locator("aside header .menu a[aria-current]")).to_contain_text("organization")
    expect(eve.page.locator("aside header .menu a.item")).to_have_count(3)


def test_an_export_is_made_while_one_waits(meet: Callable[..., Visitor], site: Installation, tmp_path: Any) -> None:
    ada = meet()
    _sign_up(ada, "ada")
    worker = site.worker()
    try:
        ada.page.goto(ada.here("/settings/exports/"))
        ada.page.get_by_role("button", name="Export now").click()
        link = ada.page.get_by_role("link", name="Download")
        expect(link).to_be_visible(timeout=60_000)  # by itself: nobody reloads the page
        with ada.page.expect_download() as download:
            link.click()
        path = tmp_path / "export.zip"
        download.value.save_as(path)
    finally:
        worker.stop()
    names = zipfile.ZipFile(path).namelist()
    assert {"members.json", "members.csv", "usage.csv", "audit.json"} <= set(names)


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_every_page_of_a_team_fits(meet: Callable[..., Visitor], site: Installation, width: int, theme: Any) -> None:
    ada = meet(width, color_scheme=theme)
    _sign_up(ada, "ada")
    page, problems = ada.page, []
    page.goto(ada.here("/team/"))
    page.get_by_label("Email").fill(f"somebody.with-a-long-name-{secrets.token_hex(4)}@subdomain.example.com")
    page.get_by_role("button", name="Send invitation").click()
    page.goto(ada.here("/webhooks/create/"))
    page.get_by_label("URL").fill(
        "https://hooks.invalid/a/very/long/path/to/a/hook/that/nobody/will/ever/call/because/it/is/ours"
    )
    page.get_by_role("button", name="Add webhook").click()
    expect(page.locator("#new-secret")).to_contain_text("whsec_")
    problems += [f"secret: {each}" for each in _problems(ada, width, theme)]
    page.get_by_role("link", name="Done").click()
    webhook = page.url.removeprefix(ada.here(""))
    page.get_by_role("button", name="Send a test").click()
    expect(page.get_by_text("The host name cannot be resolved.")).to_be_visible()
    delivery = page.url.removeprefix(ada.here(""))
    pages = {
        "team": "/team/", "leave": "/team/leave/", "settings": "/settings/", "exports": "/settings/exports/",
        "organization-delete": "/settings/delete/", "audit": "/audit/", "audit-empty": "/audit/?actor=none",
        "webhooks": "/webhooks/", "webhook-create": "/webhooks/create/", "webhook": webhook, "delivery": delivery,
        "webhook-rotate": f"{webhook}rotate/", "webhook-remove": f"{webhook}remove/",
    }  # fmt: skip
    for name, path in pages.items():
        page.goto(ada.here(path))
        problems += [f"{name}: {each}" for each in _problems(ada, width, theme)]
        _keep_picture(page, name, width, theme)
    ada.go("/o/new/")
    problems += [f"new: {each}" for each in _problems(ada, width, theme)]
    page.goto(ada.here("/settings/delete/"))
    page.get_by_label(f"Type {ada.slug} to confirm").fill(ada.slug)
    page.get_by_role("button", name="Delete organization").click()
    expect(page.get_by_text("Its keys are refused.")).to_be_visible()
    problems += [f"closing: {each}" for each in _problems(ada, width, theme)]
    page.get_by_role("button", name="Restore it").click()
    expect(page.get_by_text("its keys work again")).to_be_visible()
    assert problems == []
