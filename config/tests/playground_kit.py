"""A member at the playground with a browser, before the product's real processes and the simulated provider."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from billing.money import format_credits
from config.tests.chromium import PATIENCE_MS, complaints_of
from config.tests.processes import Installation, Service, wait_for

PASSWORD = "copper-pine-42"
KEY = "a-key-of-the-sandbox"
CREDIT = 10_000_000_000
CHAT = "/v1/chat/completions"
MODELS: dict[str, dict[str, Any]] = {
    "play-chat": {
        "upstream_name": "gpt-4o-mini",
        "prices": {"input": 300, "output": 1_200},
        "endpoints": [CHAT],
    },
    "play-blind": {"upstream_name": "gpt-4o-mini", "prices": {"input": 100, "output": 400}, "endpoints": [CHAT]},
    "play-image": {
        "upstream_name": "gpt-image-2",
        "prices": {"input": 5_000, "image_input": 8_000, "image_output": 30_000},
        "endpoints": ["/v1/images/generations", "/v1/images/edits"],
    },
    "play-hears": {
        "upstream_name": "gpt-4o-mini-transcribe",
        "prices": {"input": 1_250, "audio_input": 1_250, "output": 5_000},
        "endpoints": ["/v1/audio/transcriptions"],
    },
    "play-speaks": {
        "upstream_name": "tts-1",
        "rates": {"units": {"million_characters": "15"}},
        "endpoints": ["/v1/audio/speech"],
    },
    "play-talks": {
        "upstream_name": "gpt-4o-mini-tts",
        "prices": {"input": 600, "audio_output": 12_000},
        "endpoints": ["/v1/audio/speech"],
    },
}


@pytest.fixture(scope="module", name="web")
def running_web(installation: Installation) -> Service:
    """A web worker as in production, whose models are the simulated provider's."""
    if not installation.query("select 1 from proxy_model where name = 'play-chat'"):
        provider = installation.provider(KEY).shared()
        for name, options in MODELS.items():
            installation.clerk.model(name=name, base_url=f"{provider.url}/v1", api_key=KEY, **options)
        installation.query("""update proxy_model set capabilities = '["vision", "tools"]' where name = 'play-chat'""")
        installation.manage("collectstatic", "--noinput", "--verbosity", "0")
    return installation.web()


class Player:
    """A member with a browser, whose organization has credit."""

    def __init__(self, context: BrowserContext, web: Service, site: Installation, *, credit: int = CREDIT) -> None:
        self.site = site
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints = complaints_of(self.page)
        self.email = f"ada-{secrets.token_hex(4)}@example.com"
        self.page.goto(f"{web.url}/accounts/signup/")
        self.page.get_by_label("Email").fill(self.email)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Create account").click()
        self.page.wait_for_url("**/o/*/")
        self.home = self.page.url
        slug = self.home.rstrip("/").rpartition("/")[2]
        self.organization = site.query("select id from accounts_organization where slug = %s", slug)[0]["id"]
        if credit:
            site.clerk.grant(organization_id=self.organization, amount_nanos=credit)

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.home}playground/{path}")
        return self.page

    def records(self) -> list[dict[str, Any]]:
        return self.site.query(
            "select * from billing_usagerecord where organization_id = %s order by request_id", self.organization
        )

    def charged(self, count: int) -> dict[str, Any]:
        """The last of `count` usage records."""
        return wait_for(
            lambda: len(rows := self.records()) == count and rows[-1], timeout_s=30, what=f"{count} usage records"
        )

    def ask(self, text: str) -> Locator:
        """Send a message by the keyboard; the answer to it."""
        answers = self.page.locator(".message[data-role=assistant]")
        count = answers.count()
        expect(self.page.get_by_role("button", name="Send")).to_be_visible()
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.keyboard.press("Control+Enter")
        expect(answers).to_have_count(count + 1)
        return answers.last


@pytest.fixture(name="player")
def new_player(browser: Browser, web: Service, site: Installation) -> Iterator[Player]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write", "microphone"], origin=web.url)
    made = Player(context, web, site)
    yield made
    context.close()
    assert made.complaints == []


def charge_of(record: dict[str, Any]) -> str:
    return f"{format_credits(record['cost_nanos'])} credits"
