"""`pixie auth login`, approved in a real browser; and what only a person, or staff, may do from the command line."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from config.tests.chromium import PATIENCE_MS
from config.tests.pixie_kit import ADMIN_TOKEN, CREDIT, Pixie, open_shop
from config.tests.processes import Installation, Service
from config.tests.test_journey_browser import sign_up

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("pixie")]


@pytest.fixture(scope="module")
def shop(installation: Installation) -> tuple[Service, Service]:
    return open_shop(installation, "penny")


@pytest.fixture
def page(browser: Browser, shop: tuple[Service, Service]) -> Iterator[Page]:
    context = browser.new_context(base_url=shop[0].url)
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


def log_in(pixie: Pixie, page: Page, *arguments: str, approve: bool = True) -> str:
    """Run `pixie auth …` and decide on the page that it names; what it says in the end."""
    running = pixie.start("auth", *(arguments or ("login",)))
    assert running.stderr is not None
    address = re.fullmatch(r"Open (http\S+)\n", running.stderr.readline())
    code = re.search(r"code (\S+)$", running.stderr.readline())
    assert address
    assert code
    page.goto(address[1])
    expect(page.get_by_text(code[1])).to_be_visible()
    expect(page.get_by_text("pixie on ")).to_be_visible()
    page.get_by_role("button", name="Approve" if approve else "Deny").click()
    expect(page.get_by_role("heading", name="Connected" if approve else "Turned away")).to_be_visible()
    _, err = running.communicate(timeout=60)
    assert running.returncode == (0 if approve else 4), err
    return err


@pytest.fixture
def pixie(shop: tuple[Service, Service], tmp_path: Path) -> Pixie:
    return Pixie(tmp_path, shop[0].url)


@pytest.fixture
def penny(page: Page, site: Installation) -> dict[str, Any]:
    """A person who is signed in to the page, with credit."""
    email = f"penny-{time.monotonic_ns()}@example.com"
    slug = sign_up(page, email)
    organization = site.query("select id from accounts_organization where slug = %s", slug)[0]["id"]
    site.clerk.grant(organization_id=organization, amount_nanos=20 * CREDIT)
    return {"slug": slug, "email": email, "id": organization}


def test_a_person_signs_in_works_and_signs_out(
    pixie: Pixie, page: Page, penny: dict[str, Any], site: Installation
) -> None:
    assert f"Signed in as {penny['email']} for {penny['slug']}; kept in the file." in log_in(pixie, page)
    told = pixie.json("auth", "status")
    assert (told["email"], told["organization"], told["role"]) == (penny["email"], penny["slug"], "owner")
    assert pixie("chat", "[[say=two pence]]", "--model", "penny-chat") == "two pence\n"

    secret = pixie("keys", "create", "ci", "--scope", "chat", "-q").strip()
    names = [key["name"] for key in pixie.json("keys", "list")["data"]]
    assert names[0] == "ci"
    assert names[1].startswith("pixie on ")
    other = Pixie(pixie.home, pixie.url, secret)
    other("chat", "hi", "--model", "penny-chat")
    pixie("keys", "revoke", "ci", "--yes")
    other("chat", "hi", "--model", "penny-chat", code=3)

    site.clerk.settle()
    used = pixie.json("usage", "--days", "1")
    assert used["stats"]["requests"] == 2
    assert [row["requests"] for row in used["daily"]] == [2]
    assert [row["model"] for row in pixie.json("usage", "--log", "5")["data"]] == ["penny-chat", "penny-chat"]
    assert "penny-chat" in pixie("usage")

    pixie("auth", "logout")
    live = [key for key in site.query(
        "select name from accounts_apikey where organization_id = %s and revoked_at is null", penny["id"]
    )]  # fmt: skip
    assert live == []
    pixie("credits", code=3)


def test_a_login_that_is_turned_away(pixie: Pixie, page: Page, penny: dict[str, Any]) -> None:
    assert "turned away" in log_in(pixie, page, "github", approve=False)
    pixie("credits", code=3)


def test_the_token_is_renewed_and_a_copied_one_ends_the_session(
    pixie: Pixie, page: Page, penny: dict[str, Any], site: Installation
) -> None:
    log_in(pixie, page)
    path = pixie.home / "config" / "credentials.json"
    old = path.read_text()
    past = re.sub(r'(\\"expires_at\\": )[\d.]+', r"\g<1>0.0", old)
    assert past != old
    path.write_text(past)
    assert pixie.json("auth", "status")["email"] == penny["email"]
    assert path.read_text() != past
    site.query("update accounts_apisession set refreshed_at = refreshed_at - interval '1 minute'")
    path.write_text(past)  # a thief's copy, after the time in which a lost answer is given again
    pixie("auth", "status")  # the key still says who it is
    pixie("keys", "list", code=3)


def test_a_password_does_too(pixie: Pixie, penny: dict[str, Any]) -> None:
    password = "two-pennies-make-tuppence"
    pixie("auth", "login", "--email", penny["email"], stdin="wrong\n", code=3)
    pixie("auth", "login", "--email", penny["email"], stdin=f"{password}\n")
    assert pixie.json("auth", "status")["organization"] == penny["slug"]


def test_staff_block_end_users(pixie: Pixie, page: Page, penny: dict[str, Any], site: Installation) -> None:
    log_in(pixie, page)
    org = ("--org", penny["slug"])
    pixie("admin", "users", *org, code=4)
    site.query("update accounts_user set is_staff = true where email = %s", penny["email"])
    told = pixie.json("admin", "block", "mallory", "--reason", "spam", "--yes", *org)
    assert told["blocked"]
    assert pixie("admin", "users", "--blocked", "-q", *org) == "mallory\n"
    pixie.more["PIXIE_ADMIN_TOKEN"] = ADMIN_TOKEN
    assert pixie.json("admin", "unblock", "mallory", *org)["blocked"] is False
    pixie("admin", "unblock", "mallory", *org, code=5)
