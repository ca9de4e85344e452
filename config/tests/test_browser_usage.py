"""Charts that are drawn and lead somewhere, the live tail, saved views and kept words, in a real Chromium."""

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from config.tests.processes import Installation
from config.tests.test_browser import (  # noqa: F401 - fixtures
    Visitor,
    _ask,
    _create_key,
    _run_python,
    installation,
    member,
    visitor,
)

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("browser")]


def call(member: Visitor, secret: str, times: int = 1) -> None:  # noqa: F811
    for _ in range(times):
        _run_python(_ask(member.url, secret))


def test_charts_are_drawn_from_their_tables_and_lead_to_requests(member: Visitor, site: Installation) -> None:  # noqa: F811
    page = member.page
    call(member, _create_key(member), 2)
    page.goto(member.here("/usage/"))
    expect(page.locator(".plot canvas")).to_have_count(4)
    expect(page.locator(".stats")).to_contain_text("0.0045")  # twice 0.00222, rounded up
    figure = page.locator("#chart-requests")
    figure.get_by_text("As a table").click()
    expect(figure.locator("tbody tr")).to_have_count(30)
    expect(figure.locator("tbody tr").last).to_contain_text("2")
    over = figure.locator(".u-over")
    expect(over).to_be_visible()  # what has come meanwhile draws it anew
    box = over.bounding_box()
    assert box is not None
    at = (box["x"] + box["width"] * 29.6 / 30.2, box["y"] + box["height"] * 0.8)
    page.mouse.move(*at)
    expect(figure.locator(".tip")).to_contain_text("Answered")
    page.mouse.click(*at)
    page.wait_for_url(re.compile(r"/requests/\?first_day=.*outcome=completed"))
    expect(page.locator("#rows tbody tr")).to_have_count(2)


def test_a_filter_redraws_the_charts_and_a_theme_recolours_them(member: Visitor) -> None:  # noqa: F811
    page = member.page
    call(member, _create_key(member))
    page.goto(member.here("/usage/"))
    expect(page.locator(".plot canvas")).to_have_count(4)
    page.get_by_role("textbox", name="End user").fill("somebody")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No request matches")).to_be_visible()
    expect(page.locator(".plot canvas")).to_have_count(0)
    page.go_back()
    expect(page.locator(".plot canvas")).to_have_count(4)
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_class("js dark")
    expect(page.locator(".plot canvas")).to_have_count(4)
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.locator(".plot canvas").first).to_be_visible()
    page.wait_for_function("document.querySelector('.plot canvas').getBoundingClientRect().width < 360")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_reports_show_three_charts(member: Visitor) -> None:  # noqa: F811
    page = member.page
    call(member, _create_key(member))
    page.goto(f"{member.url}/reports?organization={member.slug}")
    expect(page.locator(".plot canvas")).to_have_count(3)
    expect(page.get_by_role("region", name="Users")).to_contain_text(member.email)
    told = page.request.get(f"{member.url}/reports/data?organization={member.slug}").json()
    assert told["by_user"][0]["user"] == member.email


def test_the_tail_is_live_until_it_is_paused(member: Visitor) -> None:  # noqa: F811
    page = member.page
    secret = _create_key(member)
    call(member, secret)
    page.goto(member.here("/requests/"))
    rows = page.locator("#rows tbody tr")
    expect(rows).to_have_count(1)
    with page.expect_event("websocket"):
        page.reload()
    call(member, secret)
    expect(rows).to_have_count(2)
    expect(page.locator("tr[data-fresh]")).to_have_count(1)
    page.get_by_role("button", name="Live").click()
    call(member, secret)
    page.wait_for_timeout(2_500)
    expect(rows).to_have_count(2)
    page.get_by_role("button", name="Paused").click()
    expect(rows).to_have_count(3)


def test_a_view_is_saved_in_a_dialog_and_deleted_in_one(member: Visitor) -> None:  # noqa: F811
    page = member.page
    call(member, _create_key(member))
    page.goto(member.here("/requests/"))
    page.get_by_label("Model").fill("gpt-fast")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Save view").click()
    dialog = page.get_by_role("dialog", name="Save this view")
    dialog.get_by_label("Name").fill("Fast ones")
    dialog.get_by_role("button", name="Save view").click()
    views = page.get_by_role("navigation", name="Saved views")
    expect(views.get_by_role("link", name="Fast ones", exact=True)).to_have_attribute("aria-current", "true")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == f"requests-{member.slug}.csv"
    page.goto(member.here("/requests/"))
    views.get_by_role("link", name="Delete the view Fast ones").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete view").click()
    expect(page.get_by_text("Deleted the view “Fast ones”.")).to_be_visible()
    expect(views).to_have_count(0)


def test_words_are_kept_once_it_is_switched_on(member: Visitor, site: Installation) -> None:  # noqa: F811
    page = member.page
    secret = _create_key(member)
    call(member, secret)
    page.goto(member.here("/requests/words/"))
    expect(page.get_by_text("Off", exact=True)).to_be_visible()
    page.get_by_label("Keep prompts and answers").check()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("On, 30 days")).to_be_visible()
    page.wait_for_timeout(1_000)  # "Every worker follows within a second."
    call(member, secret)
    site_rows: list[Any] = []
    for _ in range(50):
        site_rows = site.query("select request_id from billing_transcript")
        if site_rows:
            break
        page.wait_for_timeout(100)
    assert len(site_rows) == 1
    page.goto(member.here("/requests/"))
    page.locator("#rows .row-link").first.click()
    page.get_by_role("link", name="Show what was asked and answered").click()
    expect(page.locator("#asked")).to_contain_text('"content": "Hi"')
    expect(page.locator("#answered")).not_to_be_empty()
    page.goto(member.here("/requests/"))
    page.locator("#rows .row-link").nth(1).click()
    expect(page.get_by_text("is not kept")).to_be_visible()
