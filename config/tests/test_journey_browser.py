"""The main job in a real browser: sign up, make a key, copy the snippet, run it as it stands, find it in the log.

The web worker, the llama.cpp behind it and the snippet's own process are real; the browser is the system's Chromium.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from config.tests import books
from config.tests.chromium import PATIENCE_MS
from config.tests.processes import Installation, Service

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("journey")]

INPUT, OUTPUT = 400, 1_600
NANOS_PER_CREDIT = 10_000_000
CREDIT = 20 * NANOS_PER_CREDIT


@pytest.fixture(scope="module")
def shop(installation: Installation, llama: Service) -> Service:
    """A web worker whose only offer is the tiny model under the name that the snippets use."""
    prices = {"input": INPUT, "cached_input": INPUT, "output": OUTPUT}
    installation.clerk.model(name="gpt-fast", base_url=f"{llama.url}/v1", upstream_name="tiny-llama", prices=prices)
    return installation.web(DEBUG="1")


@pytest.fixture
def context(browser: Browser, shop: Service) -> Iterator[BrowserContext]:
    made = browser.new_context(base_url=shop.url, permissions=["clipboard-read", "clipboard-write"])
    made.set_default_timeout(PATIENCE_MS)
    yield made
    made.close()


def sign_up(page: Page, email: str) -> str:
    """Create an account; returns the slug of its organization."""
    page.goto("/")
    page.get_by_role("link", name="Create an account").first.click()
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password", exact=True).fill("two-pennies-make-tuppence")
    page.get_by_role("button", name="Create account").click()
    page.wait_for_url(re.compile(r"/o/[a-z0-9-]+/"))
    found = re.search(r"/o/([a-z0-9-]+)/", page.url)
    assert found
    return found[1]


def copied(page: Page, language: str) -> str:
    """The snippet in this language, through the button and the clipboard."""
    page.get_by_role("tab", name=language).click()
    panel = page.get_by_role("tabpanel", name=language)
    panel.get_by_role("button", name="Copy").click()
    expect(panel.get_by_text("Copied")).to_be_visible()
    return str(page.evaluate("navigator.clipboard.readText()"))


def run(argv: list[str]) -> str:
    """What the snippet prints, run far from the project's settings."""
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, timeout=60, cwd="/", env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_sign_up_make_a_key_run_the_copied_snippet_and_find_its_cost(
    site: Installation, shop: Service, context: BrowserContext
) -> None:
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    slug = sign_up(page, "penny@example.com")
    organization = site.query("select id from accounts_organization where slug = %s", slug)[0]["id"]
    site.clerk.grant(organization_id=organization, amount_nanos=CREDIT)
    before = site.query("select posted as available from billing_account where organization_id = %s", organization)[0]

    page.goto(f"/o/{slug}/")
    page.get_by_role("link", name="Create key").first.click()
    page.get_by_label("Name").fill("first")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#new-key").inner_text()
    assert re.fullmatch(r"sk-tup-[0-9A-Za-z]{50}", secret)

    python, curl = copied(page, "Python"), copied(page, "curl")
    assert secret in python
    assert f"{shop.url}/v1" in python
    assert run([sys.executable, "-I", "-c", python]).strip()
    if shutil.which("curl"):
        assert '"chat.completion"' in run(["sh", "-c", f"{curl} --silent --fail"])

    rows = books.usage(site, organization)
    assert rows
    for row in rows:
        assert row["outcome"] == "completed"
        assert row["cost_nanos"] == row["input_tokens"] * INPUT + row["output_tokens"] * OUTPUT

    page.goto(f"/o/{slug}/requests/")
    log = page.locator("#rows tbody tr")
    expect(log).to_have_count(len(rows))
    expect(log.first).to_contain_text("gpt-fast")
    shown = Decimal(log.first.locator("[data-label=Cost]").inner_text().split()[0].replace(",", ""))
    newest = rows[-1]
    assert shown == pytest.approx(Decimal(newest["cost_nanos"]) / NANOS_PER_CREDIT, rel=Decimal("0.01"))
    log.first.get_by_role("link").click()
    page.wait_for_url(re.compile(str(newest["request_id"])))
    body = page.locator("main")
    expect(body).to_contain_text(f"{newest['output_tokens']:,}")
    expect(body).to_contain_text("gpt-fast")
    expect(body).not_to_contain_text(secret)

    # The page of the key, asked for again, no longer knows the secret.
    page.goto(f"/o/{slug}/keys/")
    assert secret not in page.content()
    account = site.query("select id from billing_account where organization_id = %s", organization)[0]["id"]
    spent = sum(row["cost_nanos"] for row in rows)
    books.prove(site, {"account_id": account}, credit=before["available"], spent=spent)
    assert problems == []
