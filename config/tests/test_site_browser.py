"""The public pages in a real Chromium: the catalogue with and without a script, the calculator, the API reference."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, expect

import proxy.openapi
from config.tests.processes import Service
from config.tests.test_browser import Visitor, _visitor, installation, visitor  # noqa: F401 - fixtures

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("browser")]

TAGS = Path(proxy.openapi.__file__).parent / "tags.yaml"


@pytest.fixture
def plain(browser: Browser, pages: Service) -> Iterator[Visitor]:
    """A visitor whose browser runs no scripts."""
    context = browser.new_context(java_script_enabled=False)
    yield _visitor(context, pages)
    context.close()


def test_typing_filters_and_two_models_are_compared(visitor: Visitor) -> None:  # noqa: F811
    page = visitor.page
    visitor.go("/models")
    rows = page.locator("#results tbody tr")
    expect(rows).to_have_count(2)
    page.get_by_role("searchbox", name="Search").press_sequentially("slow")
    expect(rows).to_have_count(1)
    assert "q=slow" in page.url
    page.get_by_label("Compare gpt-slow").check()
    expect(page.get_by_text("1 of 4 chosen")).to_be_visible()
    expect(page.get_by_label("Compare gpt-slow")).to_be_focused()
    page.get_by_role("searchbox", name="Search").fill("fast")
    expect(rows).to_contain_text(["gpt-fast"])
    page.get_by_label("Compare gpt-fast").check()
    expect(page.get_by_text("2 of 4 chosen")).to_be_visible()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("columnheader", name="gpt-slow")).to_be_visible()
    expect(page.get_by_role("columnheader", name="gpt-fast")).to_be_visible()


def test_the_calculator_follows_what_is_typed(visitor: Visitor) -> None:  # noqa: F811
    page = visitor.page
    visitor.go("/models/gpt-fast")
    page.get_by_label("Input tokens").fill("2000")
    page.get_by_label("Output tokens").fill("1000")
    page.get_by_label("Requests a day").fill("100")
    # 2,000 × 300 + 1,000 × 1,200 n$ = $0.0018; 100 a day for 30 days are $5.40
    expect(page.locator("#estimate tbody tr")).to_contain_text("$5.40")
    expect(page.locator("#estimate tbody tr")).to_contain_text("$0.0018")


def test_the_catalogue_works_without_a_script(plain: Visitor) -> None:
    page = plain.page
    plain.go("/models")
    page.get_by_role("searchbox", name="Search").fill("slow")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#results tbody tr")).to_have_count(1)
    page.get_by_label("Compare gpt-slow").check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_label("Requests a day").fill("10")
    page.get_by_role("button", name="Calculate").click()
    # 1,000 × 2,000 + 300 × 8,000 n$ = $0.0044, ten a day for 30 days
    expect(page.locator("#estimate tbody tr")).to_contain_text("$1.32")


def test_the_menu_of_the_site_opens_on_a_phone(visitor: Visitor) -> None:  # noqa: F811
    page = visitor.page
    page.set_viewport_size({"width": 390, "height": 844})
    visitor.go("/")
    page.get_by_text("Menu", exact=True).click()
    page.locator(".site-nav details").get_by_role("link", name="Guides").click()
    expect(page.get_by_role("heading", name="Guides", level=1)).to_be_visible()
    page.get_by_role("link", name="Python", exact=False).first.click()
    page.get_by_role("button", name="Copy").first.click()
    assert page.evaluate("navigator.clipboard.readText()") == "pip install openai"


def test_swagger_shows_every_section_and_an_operation(visitor: Visitor) -> None:  # noqa: F811
    page = visitor.page
    visitor.go("/docs")
    expect(page.locator(".opblock-tag")).to_have_count(len(yaml.safe_load(TAGS.read_text())))
    page.goto(f"{visitor.url}/docs#/Chat/createChatCompletion")
    page.reload()
    operation = page.locator("#operations-Chat-createChatCompletion")
    expect(operation).to_contain_text("/v1/chat/completions")
    expect(operation).to_contain_text("gpt-4o-mini")


def test_redoc_shows_the_description_under_the_policy(visitor: Visitor) -> None:  # noqa: F811
    page = visitor.page
    visitor.go("/redoc")
    drawn = page.get_by_role("heading", name="Chat completions")
    expect(drawn).to_be_visible(timeout=60_000)  # of the whole description
    page.get_by_placeholder("Search...").fill("receipt")
    expect(page.get_by_role("menuitem", name="receipt").first).to_be_visible()
    expect(page.get_by_role("link", name="API docs by Redocly")).to_be_attached()
