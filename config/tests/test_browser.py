"""The pages in a real Chromium, before the product's real processes.

`SCREENSHOTS=directory` keeps a picture of every page at both widths in both themes (`make screenshots`).
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from config.tests import accessibility
from config.tests.chromium import EACH_ONCE, LOOKS, PATIENCE_MS, WIDTHS, complaints_of
from config.tests.processes import Installation, Service

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("browser")]

PASSWORD = "copper-pine-42"
CREDIT = 10_000_000_000  # 1,000 credits
COST = "0.00222"  # (10 tokens in × 300 + 16 out × 1,200) n$ = 22,200 n$, in credits of 10,000,000 n$


@dataclass
class Visitor:
    """Somebody with a browser: a page, the site's address, and what the browser complained about."""

    page: Page
    url: str
    complaints: list[str]
    email: str = ""
    slug: str = ""

    def go(self, path: str) -> None:
        self.page.goto(self.url + path)

    def here(self, path: str) -> str:
        return f"{self.url}/o/{self.slug}{path}"


@pytest.fixture(scope="module")
def installation(showroom: Installation) -> Installation:
    return showroom


def _visitor(context: BrowserContext, pages: Service) -> Visitor:
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    return Visitor(page, pages.url, complaints_of(page))


@pytest.fixture
def visitor(browser: Browser, pages: Service) -> Iterator[Visitor]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=pages.url)
    visitor = _visitor(context, pages)
    yield visitor
    context.close()
    assert visitor.complaints == []


@pytest.fixture
def member(visitor: Visitor, site: Installation) -> Visitor:
    """A visitor who has signed up; their organization has credit."""
    return _sign_up(visitor, site)


def _sign_up(visitor: Visitor, site: Installation) -> Visitor:
    visitor.email = f"ada-{secrets.token_hex(4)}@example.com"
    visitor.go("/")
    visitor.page.get_by_role("link", name="Create an account").click()
    visitor.page.get_by_label("Email").fill(visitor.email)
    visitor.page.get_by_label("Password").fill(PASSWORD)
    visitor.page.get_by_role("button", name="Create account").click()
    visitor.page.wait_for_url("**/o/*/")
    visitor.slug = visitor.page.url.rstrip("/").rpartition("/")[2]
    organization = site.query("select id from accounts_organization where slug = %s", visitor.slug)[0]["id"]
    site.clerk.grant(organization_id=organization, amount_nanos=CREDIT)
    return visitor


def _create_key(member: Visitor, name: str = "laptop") -> str:
    member.page.goto(member.here("/keys/create/"))
    member.page.get_by_label("Name").fill(name)
    member.page.get_by_role("button", name="Create key").click()
    return member.page.locator("#new-key").inner_text()


def _run_python(code: str) -> str:
    """Run a snippet as somebody would who has pasted it into a file."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, env={"PATH": ""}
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_from_sign_up_to_the_cost_of_the_first_request(member: Visitor) -> None:
    page = member.page
    expect(page.get_by_text("First steps")).to_be_visible()
    expect(page.locator("#live")).to_contain_text("1,000.00 credits")
    page.get_by_role("link", name="Create key").first.click()
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#new-key").inner_text()
    expect(page.get_by_text("You will not see it again.")).to_be_visible()

    page.get_by_role("button", name="Copy key").click()
    expect(page.locator("#announcer")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == secret

    page.get_by_role("tab", name="Python").click()
    page.locator("#snippet-python").get_by_role("button", name="Copy").click()
    expect(page.locator("#snippet-python [data-copied]")).to_be_visible()
    snippet = page.evaluate("navigator.clipboard.readText()")
    assert secret in snippet

    page.get_by_role("link", name="Done").click()
    expect(page.locator(".steps [data-done]")).to_have_count(2)  # credit and key
    assert _run_python(snippet).strip()

    expect(page.locator(".steps [data-done]")).to_have_count(3)  # by itself: nobody reloads the page
    page.get_by_role("link", name="Open it in the request log").click()
    expect(page.get_by_text(f"{COST} credits")).to_be_visible()
    charge = page.get_by_role("region", name="Charge")
    expect(charge).to_contain_text("$0.30 per 1M tokens")
    expect(charge).to_contain_text("$0.000022200")

    page.get_by_role("link", name="Requests").first.click()
    row = page.locator("#rows tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("laptop")
    expect(row).to_contain_text(COST)
    page.get_by_role("link", name="Overview").first.click()
    expect(page.get_by_text("First steps")).to_have_count(0)


def test_a_second_click_makes_no_second_key(member: Visitor) -> None:
    page = member.page
    page.goto(member.here("/keys/create/"))
    page.get_by_label("Name").fill("twice")
    page.get_by_role("button", name="Create key").dblclick()
    expect(page.locator("#new-key")).to_be_visible()
    page.reload()  # which sends the form again
    expect(page.get_by_role("heading", name="This form was already sent")).to_be_visible()
    page.goto(member.here("/keys/"))
    expect(page.locator("tbody tr")).to_have_count(1)
    member.complaints.clear()  # Chromium logs the 409


def test_revoking_asks_in_a_dialog_and_can_be_called_off(member: Visitor) -> None:
    _create_key(member)
    page = member.page
    page.goto(member.here("/keys/"))
    revoke = page.get_by_role("link", name="Revoke laptop")
    revoke.click()
    confirm = page.get_by_role("dialog", name="Revoke “laptop”?").get_by_role("button", name="Revoke key")
    expect(confirm).to_be_visible()
    _keep_picture(page, "dialog", 1280, "light")
    page.get_by_role("dialog").get_by_role("link", name="Cancel").click()
    expect(confirm).not_to_be_visible()
    revoke.click()
    expect(confirm).to_be_visible()
    page.keyboard.press("Escape")
    expect(confirm).not_to_be_visible()
    expect(page.get_by_text("Revoked", exact=True)).to_have_count(0)
    revoke.click()
    confirm.click()
    expect(page.get_by_text("Revoked “laptop”.")).to_be_visible()
    expect(page.locator("tbody").get_by_text("Revoked", exact=True)).to_be_visible()


def test_filters_change_the_rows_and_the_address(member: Visitor) -> None:
    secret = _create_key(member)
    for _ in range(2):
        _run_python(_ask(member.url, secret))
    page = member.page
    page.goto(member.here("/requests/"))
    expect(page.locator("#rows tbody tr")).to_have_count(2)
    for width in (900, 1024, 1280):  # tablets and a screen
        page.set_viewport_size({"width": width, "height": 900})
        assert page.locator("#rows .table-container").evaluate("it => it.scrollWidth - it.clientWidth") == 0, width
    page.get_by_label("Model").fill("something-else")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No request matches")).to_be_visible()
    assert "model=something-else" in page.url
    page.go_back()
    expect(page.locator("#rows tbody tr")).to_have_count(2)


def _ask(url: str, secret: str) -> str:
    return (
        f"from openai import OpenAI\nclient = OpenAI(base_url='{url}/v1', api_key='{secret}')\n"
        "print(client.chat.completions.create(model='gpt-fast', messages=[{'role': 'user', 'content': 'Hi'}]))"
    )


def test_the_keyboard_reaches_everything(member: Visitor) -> None:
    page = member.page
    page.goto(member.here("/"))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"

    switcher = page.locator(".sidebar header summary")
    switcher.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".sidebar header .menu")).to_have_attribute("open", "")
    page.keyboard.press("Escape")
    expect(page.locator(".sidebar header .menu")).not_to_have_attribute("open", "")
    expect(switcher).to_be_focused()

    page.locator("#snippet-tab-curl").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#snippet-python")).to_be_visible()
    expect(page.locator("#snippet-curl")).to_be_hidden()

    page.goto(member.here("/keys/create/"))
    page.get_by_label("Name").focus()
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    expect(page.locator("#new-key")).to_be_visible()


def test_the_navigation_folds_away_on_a_phone(member: Visitor) -> None:
    page = member.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(member.here("/"))
    overview = page.locator(".sidebar").get_by_role("link", name="API keys")
    expect(overview).not_to_be_in_viewport()
    page.get_by_role("button", name="Open navigation").click()
    expect(overview).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(overview).not_to_be_in_viewport()
    expect(page.get_by_role("button", name="Open navigation")).to_be_focused()
    page.get_by_role("button", name="Open navigation").click()
    overview.click()
    expect(page.get_by_role("heading", name="API keys")).to_be_visible()


def test_filters_fold_away_on_a_phone(member: Visitor) -> None:
    page = member.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(member.here("/requests/"))
    expect(page.get_by_label("Model")).to_be_hidden()
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("Model").fill("something-else")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No request matches")).to_be_visible()
    page.reload()  # a filter that binds is shown
    expect(page.get_by_label("Model")).to_be_visible()


def test_the_theme_is_the_systems_until_chosen_and_then_stays(browser: Browser, pages: Service) -> None:
    context = browser.new_context(color_scheme="dark")
    visitor = _visitor(context, pages)
    page = visitor.page
    visitor.go("/")
    html = page.locator("html")
    expect(html).to_have_class("js dark")
    toggle = page.get_by_role("button", name="Theme:")
    toggle.click()  # system -> light
    expect(html).to_have_class("js")
    page.reload()
    expect(html).to_have_class("js")
    toggle.click()  # light -> dark
    page.emulate_media(color_scheme="light")
    expect(html).to_have_class("js dark")
    toggle.click()  # dark -> system
    expect(html).to_have_class("js")
    context.close()
    assert visitor.complaints == []


def test_the_console_works_without_a_script(browser: Browser, pages: Service, site: Installation) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=False)
    visitor = _sign_up(_visitor(context, pages), site)
    page = visitor.page
    page.locator(".sidebar").get_by_role("link", name="API keys").click()
    page.get_by_role("link", name="Create key").click()
    page.get_by_label("Name").fill("plain")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#new-key")).to_be_visible()
    expect(page.locator("#snippet-node")).to_be_visible()  # without tabs, all snippets are there
    page.goto(visitor.here("/keys/"))
    page.get_by_role("link", name="Revoke plain").click()
    page.get_by_role("button", name="Revoke key").click()
    expect(page.get_by_text("Revoked “plain”.")).to_be_visible()
    page.locator(".sidebar footer summary").click()
    page.get_by_role("button", name="Sign out").click()
    page.goto(visitor.here("/keys/"))
    assert "/accounts/login/" in page.url
    context.close()


# ---------------------------------------------------------------- Every page, both widths, both themes

PUBLIC = {
    "landing": "/",
    "catalogue": "/models",
    "catalogue-none": "/models?q=no-such-model",
    "model": "/models/gpt-fast",
    "compare": "/models/compare?c=gpt-fast",
    "compare-none": "/models/compare",
    "guides": "/guides/",
    "guide": "/guides/quick-start",
    "guide-python": "/guides/python",
    "guide-errors": "/guides/errors",
    "docs": "/docs",
    "changelog": "/changelog",
    "terms": "/terms",
    "pricing": "/pricing",
    "login": "/accounts/login/",
    "signup": "/accounts/signup/",
    "password-reset": "/accounts/password/reset/",
    "password-reset-sent": "/accounts/password/reset/done/",
    "link-over": "/accounts/confirm-email/none/",
    "turned-back": "/accounts/3rdparty/login/cancelled/",
    "not-found": "/no-such-page/",
    "gallery-none": "/gallery",
    "status": "/status",
    "status-history": "/status/history",
    "status-subscribe": "/status/subscribe",
}
ACCOUNT = {
    "email": "/accounts/email/",
    "password": "/accounts/password/change/",
    "two-factor": "/accounts/2fa/",
    "authenticator": "/accounts/2fa/totp/activate/",
    "sessions": "/accounts/sessions/",
    "connections": "/accounts/3rdparty/",
    "account": "/account/",
    "device": "/device",
    "passkeys": "/accounts/2fa/webauthn/",
    "reauthenticate": "/accounts/reauthenticate/",
    "logout": "/accounts/logout/",
}
FRESH = {
    "overview-new": "/",
    "keys-none": "/keys/",
    "key-create": "/keys/create/",
    "requests-none": "/requests/",
    "usage-none": "/usage/",
    "words": "/requests/words/",
    "view-create": "/requests/views/create/?model=a",
    "images-none": "/images/",
    "limits": "/limits/",
    "end-users-none": "/end-users/",
    "models": "/models/",
    "sessions-none": "/sessions/",
    "playground": "/playground/",
    "playground-images-none": "/playground/images/",
    "playground-transcription-none": "/playground/transcription/",
    "playground-speech-none": "/playground/speech/",
    "playground-realtime-none": "/playground/realtime/",
}


@pytest.fixture(scope="module")
def everything(browser: Browser, pages: Service, installation: Installation) -> dict[str, Any]:
    """The pages of two members, one new and one with keys and requests, and their cookies."""
    new_context, used_context = browser.new_context(), browser.new_context()
    new = _sign_up(_visitor(new_context, pages), installation)
    used = _sign_up(_visitor(used_context, pages), installation)
    _run_python(_ask(used.url, _create_key(used)))
    long_name = "a key with a name as long as programs_give_to_the_things_that_they_make_alone"
    _create_key(used, long_name)
    used.page.goto(used.here("/keys/"))
    links = {
        name: used.page.get_by_role("link", name=f"{name} {long_name}").get_attribute("href")
        for name in ("Edit", "Revoke", "Rotate", "Budgets of")
    }
    used.page.goto(used.here("/requests/"))
    detail = used.page.locator("#rows .row-link").first.get_attribute("href")
    prefix = f"/o/{used.slug}"
    found = {
        "new": {name: f"/o/{new.slug}{path}" for name, path in FRESH.items()},
        "used": {
            "overview": f"{prefix}/",
            "keys": f"{prefix}/keys/",
            "requests": f"{prefix}/requests/",
            "usage": f"{prefix}/usage/",
            "reports": "/reports",
            "request-detail": detail,
            "key-edit": links["Edit"],
            "key-revoke": links["Revoke"],
            "key-rotate": links["Rotate"],
            "key-budgets": links["Budgets of"],
            **ACCOUNT,
        },
        "public": PUBLIC,
        "states": {"new": new_context.storage_state(), "used": used_context.storage_state(), "public": None},
    }
    new_context.close()
    used_context.close()
    return found


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_every_page_fits_and_breaks_no_policy(
    width: int, theme: Any, browser: Browser, pages: Service, everything: dict[str, Any]
) -> None:
    problems = []
    for who, state in everything["states"].items():
        context = browser.new_context(
            viewport={"width": width, "height": WIDTHS[width]},
            color_scheme=theme,
            reduced_motion="reduce",
            storage_state=state,
        )
        visitor = _visitor(context, pages)
        for name, path in everything[who].items():
            visitor.go(path)
            visitor.page.wait_for_load_state("networkidle") if who == "public" else None
            problems += [f"{name}: {problem}" for problem in _problems(visitor, width, theme)]
            if (width, theme) in EACH_ONCE:  # axe takes its time
                problems += [f"{name}: {problem}" for problem in accessibility.violations(visitor.page)]
            _keep_picture(visitor.page, name, width, theme)
        context.close()
    assert not problems, "\n".join(problems)


def _problems(visitor: Visitor, width: int, theme: str) -> list[str]:
    page, found = visitor.page, []
    expected = "404 (Not Found)"  # what Chromium says of the page that is not there
    found += [complaint for complaint in visitor.complaints if expected not in complaint]
    visitor.complaints.clear()
    if page.evaluate("document.documentElement.scrollWidth") > width:
        found.append("scrolls sideways")
    if ("dark" in (page.locator("html").get_attribute("class") or "")) != (theme == "dark"):
        found.append("wrong theme")
    headings = page.locator("h1, .confirm h2").and_(page.locator(":not(#swagger-ui *)")).count()
    if headings != 1:
        found.append(f"{headings} main headings")
    nameless = page.evaluate(
        """[...document.querySelectorAll("a, button, summary, input:not([type=hidden]), select, textarea")]
           .filter(e => !e.closest("#swagger-ui") && e.checkVisibility() && !(e.innerText || "").trim()
                        && !e.ariaLabel && !e.labels?.length && !e.getAttribute("aria-labelledby")
                        && !e.textContent.trim())
           .map(e => e.outerHTML.slice(0, 80))"""
    )
    return found + [f"has no name: {html}" for html in nameless]


def _keep_picture(page: Page, name: str, width: int, theme: str) -> None:
    directory = os.environ.get("SCREENSHOTS")
    if directory:
        page.screenshot(path=Path(directory) / f"{name}-{width}-{theme}.png", full_page=True)
