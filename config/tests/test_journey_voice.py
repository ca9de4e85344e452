"""The Realtime playground in a real browser, with the microphone that Chromium pretends to have; live pages."""

import math
import os
import re
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from config.tests import chromium
from config.tests.processes import Installation, Service, wait_for
from config.tests.test_journey_browser import sign_up

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("voice")]

KEY = "a-key-of-the-sandbox"
RATE = 24_000
PRICES = {"input": 4_000, "output": 24_000, "audio_input": 32_000, "audio_output": 64_000}


@pytest.fixture(scope="module")
def shop(installation: Installation) -> Service:
    provider = installation.provider(KEY)
    url, endpoints = f"{provider.url}/v1", ["/v1/realtime"]
    installation.clerk.model(
        name="voiced", base_url=url, upstream_name="m", api_key=KEY, prices=PRICES, endpoints=endpoints
    )
    return installation.web(DEBUG="1")


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of somebody who hums for a second and then is quiet for two."""
    path = tmp_path_factory.mktemp("voice") / "voice.wav"
    hum = (int(12_000 * math.sin(at / 30) * math.sin(at / 700)) for at in range(RATE))
    with wave.open(str(path), "wb") as recording:
        recording.setparams((1, 2, RATE, 0, "NONE", "NONE"))
        recording.writeframes(b"".join(sample.to_bytes(2, "little", signed=True) for sample in hum))
        recording.writeframes(bytes(2 * 2 * RATE))
    return path


@pytest.fixture
def page(shop: Service, voice: Path) -> Iterator[Page]:
    with chromium.started(*chromium.MICROPHONE, f"--use-file-for-fake-audio-capture={voice}") as browser:
        context = browser.new_context(base_url=shop.url, viewport={"width": 1280, "height": 900})
        context.set_default_timeout(chromium.PATIENCE_MS)
        made = context.new_page()
        problems = chromium.complaints_of(made)
        yield made
        context.close()
        assert problems == []


def _keep_picture(page: Page, name: str) -> None:
    if directory := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(directory) / f"{name}.png", full_page=True)


def test_writing_and_speaking_to_a_model_while_another_page_looks_on(page: Page, site: Installation) -> None:
    slug = sign_up(page, "voice@example.com")
    organization = site.query("SELECT id FROM accounts_organization WHERE slug = %s", slug)[0]["id"]
    site.clerk.grant(organization_id=organization, amount_nanos=10**12)
    looker = page.context.new_page()
    looker.goto(f"/o/{slug}/sessions/")
    expect(looker.get_by_text("No sessions yet")).to_be_visible()

    page.goto(f"/o/{slug}/playground/realtime/")
    page.get_by_role("combobox", name="Model").select_option("voiced")
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#realtime-state")).to_contain_text("Connected")
    page.get_by_label("Message").fill("[[say=I can hear you]] hello")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#realtime-talk")).to_contain_text("Model: I can hear you")
    expect(page.locator("#realtime-state")).to_contain_text("Charged")
    expect(looker.get_by_text("Open now (1)")).to_be_visible()
    expect(looker.get_by_role("row", name=re.compile("voiced"))).to_contain_text("voice@example.com")

    page.get_by_role("button", name="Microphone").click()
    expect(page.get_by_role("button", name="Microphone")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#realtime-talk")).to_contain_text("(spoken)")
    _keep_picture(page, "playground-realtime-1280-light")
    _keep_picture(looker, "sessions-1280-light")
    page.set_viewport_size({"width": 390, "height": 844})
    _keep_picture(page, "playground-realtime-390-light")
    width = "document.documentElement.scrollWidth"  # the sidebar slides away first
    wait_for(lambda: page.evaluate(width) <= 390, timeout_s=20, what="a page that fits a phone")

    looker.get_by_role("link", name=re.compile("End the session")).click()
    looker.get_by_role("button", name="End session").click()
    expect(page.locator("#realtime-state")).to_contain_text("Ended by the organization.")
    expect(looker.get_by_text("session_ended")).to_be_visible()


def test_the_overview_and_the_log_move_by_themselves(page: Page, site: Installation, shop: Service) -> None:
    slug = sign_up(page, "live@example.com")
    organization = site.query("SELECT id FROM accounts_organization WHERE slug = %s", slug)[0]["id"]
    site.clerk.grant(organization_id=organization, amount_nanos=10**12)
    page.goto(f"/o/{slug}/requests/")
    expect(page.get_by_text("No requests yet")).to_be_visible()
    other = page.context.new_page()
    other.goto(f"/o/{slug}/playground/realtime/")
    other.get_by_role("combobox", name="Model").select_option("voiced")
    other.get_by_role("button", name="Connect").click()
    other.get_by_label("Message").fill("[[say=yes]] hello")
    other.get_by_role("button", name="Send").click()
    expect(other.locator("#realtime-state")).to_contain_text("Charged")
    expect(page.locator("tbody").get_by_text("/v1/realtime").first).to_be_visible()
