"""Ways in that need a browser: passkeys in Chromium's virtual authenticator, a device, another site's account."""

import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect

from config.tests import identity
from config.tests.chromium import PATIENCE_MS, complaints_of
from config.tests.processes import Installation, Service
from sandbox.processes import free_port

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("identity")]

PASSWORD = "copper-pine-42"
# The refusal of the administration, its icon that nobody made, and what allauth says of a passkey that is not there.
EXPECTED = ("403 (Forbidden)", "404 (Not Found)", "NotAllowedError")


def _web(installation: Installation, **environment: str) -> Service:
    """A web worker under a name: a passkey belongs to one, not to an address."""
    port = free_port()
    names = {"SITE_URL": f"http://localhost:{port}", "ALLOWED_HOSTS": "localhost,127.0.0.1"}
    return installation.web(port=port, DEBUG="1", STAFF_NEEDS_MFA="1", **names, **environment)


@pytest.fixture(scope="module")
def site_here(installation: Installation) -> Service:
    return _web(installation)


@pytest.fixture
def page(browser: Browser, site_here: Service) -> Iterator[Page]:
    """A page whose console stays silent."""
    yield from _page(browser, site_here)


def _page(browser: Browser, site: Service) -> Iterator[Page]:
    context = browser.new_context(base_url=f"http://localhost:{site.port}", viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    complaints = complaints_of(page)
    yield page
    context.close()
    assert [text for text in complaints if not any(part in text for part in EXPECTED)] == []


def sign_up(page: Page, site: Installation) -> str:
    """A new account whose address is confirmed."""
    email = f"ada-{secrets.token_hex(4)}@example.com"
    page.goto("/accounts/signup/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    page.wait_for_url("**/o/*/")
    site.query("update account_emailaddress set verified = true where email = %s", email)
    return email


def sign_out(page: Page) -> None:
    page.goto("/accounts/logout/")
    page.get_by_role("main").get_by_role("button", name="Sign out").click()


def authenticator(page: Page) -> tuple[CDPSession, str]:
    """A phone or laptop that keeps passkeys, and whose owner nods at once."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options: dict[str, Any] = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    made = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return devtools, made["authenticatorId"]


def add_passkey(page: Page, name: str, *, is_passwordless: bool = True) -> None:
    """From the page of the second factors; the password is asked for once more."""
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    page.get_by_label("Name").fill(name)
    if is_passwordless:
        page.get_by_label("Passwordless").check()
    page.get_by_role("button", name="Add passkey").click()
    page.wait_for_url("**/accounts/2fa/recovery-codes/**")


def test_a_passkey_is_made_signs_in_and_is_removed(page: Page, site: Installation) -> None:
    email = sign_up(page, site)
    devtools, phone = authenticator(page)
    page.goto("/account/")
    page.get_by_role("link", name="Set up two-factor").click()
    add_passkey(page, "My phone")
    (credential,) = devtools.send("WebAuthn.getCredentials", {"authenticatorId": phone})["credentials"]
    assert (credential["isResidentCredential"], credential["rpId"]) == (True, "localhost")
    assert len(page.get_by_label("Unused codes").input_value().split()) == 10

    sign_out(page)
    page.goto("/accounts/login/?next=/account/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_url("**/account/")
    expect(page.get_by_role("main")).to_contain_text(email)
    expect(page.get_by_role("main")).to_contain_text("passkeys")

    page.goto("/accounts/2fa/webauthn/")
    page.get_by_role("link", name="Remove My phone").click()
    page.get_by_role("link", name="Use a security key").click()
    page.get_by_role("button", name="Use a passkey").click()
    page.get_by_role("button", name="Remove passkey").click()
    page.wait_for_url("**/accounts/2fa/webauthn/")
    page.goto("/account/")
    expect(page.get_by_role("link", name="Set up two-factor")).to_be_visible()


def test_a_passkey_is_the_second_factor_after_a_password(page: Page, site: Installation) -> None:
    email = sign_up(page, site)
    authenticator(page)
    page.goto("/accounts/2fa/")
    add_passkey(page, "Laptop")
    sign_out(page)
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="Confirm that it is you")).to_be_visible()
    page.wait_for_load_state()  # until then the button has no script
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("**/o/*/")


def test_another_phone_does_not_open_the_account(page: Page, site: Installation) -> None:
    sign_up(page, site)
    devtools, phone = authenticator(page)
    page.goto("/accounts/2fa/")
    add_passkey(page, "Phone")
    sign_out(page)
    devtools.send("WebAuthn.clearCredentials", {"authenticatorId": phone})
    page.goto("/accounts/login/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_timeout(1_000)
    page.goto("/account/")
    expect(page.get_by_role("button", name="Sign in", exact=True)).to_be_visible()


def test_staff_come_in_with_a_passkey_only(page: Page, site: Installation) -> None:
    email = sign_up(page, site)
    site.query("update accounts_user set is_staff = true, is_superuser = true where email = %s", email)
    page.goto("/admin/")
    expect(page.get_by_role("heading", name="A second factor is needed")).to_be_visible()
    authenticator(page)
    page.get_by_role("link", name="Set it up").click()
    add_passkey(page, "Key", is_passwordless=False)
    page.goto("/admin/")
    expect(page.get_by_role("heading", name="Site administration")).to_be_visible()


def test_a_device_is_let_in(page: Page, site: Installation, site_here: Service) -> None:
    email = sign_up(page, site)
    with httpx.Client(base_url=f"{site_here.url}/v1/auth") as api:
        asked = {"client_id": "pixie", "client_name": "pixie on a laptop"}
        device = api.post("/device/code", json=asked).json()
        page.goto(device["verification_uri"])
        page.get_by_label("Code").fill(device["user_code"].lower().replace("-", ""))
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("main")).to_contain_text("pixie on a laptop")
        expect(page.get_by_role("main")).to_contain_text(device["user_code"])
        page.get_by_role("button", name="Approve").click()
        expect(page.get_by_role("heading", name="Connected")).to_be_visible()
        made = api.post("/device/token", json={"device_code": device["device_code"], "client_id": "pixie"}).json()
        me = api.get("/me", headers={"authorization": f"Bearer {made['access_token']}"}).json()
        assert me["email"] == email

        page.get_by_role("link", name="Account", exact=True).click()
        page.get_by_role("link", name="Sign out pixie on a laptop").click()
        page.get_by_role("dialog").get_by_role("button", name="Sign out").click()
        expect(page.get_by_text("The program is signed out.")).to_be_visible()
        refused = api.get("/me", headers={"authorization": f"Bearer {made['access_token']}"})
        assert refused.status_code == 401


def test_another_sites_account_opens_ours(
    browser: Browser, installation: Installation, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The policy of the page lets the form lead to the provider, which no test without a browser would notice."""
    with identity.running(tmp_path_factory.mktemp("identity")) as provider:
        email = f"ada-{secrets.token_hex(4)}@example.com"
        provider.becomes(sub=secrets.token_hex(8), email=email, email_verified=True, name="Ada")
        credentials = {"OIDC_CLIENT_ID": "tuppence", "OIDC_CLIENT_SECRET": "secret"}
        site = _web(installation, OIDC_ISSUER=provider.url, OIDC_NAME="Works", **credentials)
        for page in _page(browser, site):
            page.goto("/accounts/login/")
            page.get_by_role("button", name="Continue with Works").click()
            page.wait_for_url("**/o/*/")
            page.goto("/account/")
            expect(page.get_by_role("main")).to_contain_text(email)
            expect(page.get_by_role("main")).to_contain_text("1 connected")
        site.stop()
