"""The playground's chat in a real browser, before the product's real processes and the simulated provider.

Whatever the page says that an answer cost is compared with the usage record of that very request.
"""

import json
import re
import secrets
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from billing.money import format_credits
from config.tests.playground_kit import (  # noqa: F401 - fixtures
    Player,
    charge_of,
    new_player,
    running_web,
)
from config.tests.processes import Installation, Service, wait_for
from gallery.tests.kit import picture

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("playground")]


def test_a_conversation_is_answered_charged_and_there_again_after_a_reload(player: Player) -> None:
    page = player.open("")
    page.get_by_label("Model", exact=True).select_option("play-chat")
    expect(page.locator("#model-facts")).to_contain_text("$0.30 in, $1.20 out per 1M tokens · Vision, Tools")
    answer = player.ask("[[say=**Two** pence.]] What is a tuppence?")
    expect(answer.locator("strong")).to_have_text("Two")
    first = player.charged(1)
    assert (first["model"], first["end_user"], first["outcome"]) == ("play-chat", player.email, "completed")
    assert first["cost_nanos"] == first["input_tokens"] * 300 + first["output_tokens"] * 1_200
    expect(answer.locator(".cost")).to_have_text(charge_of(first))
    expect(page.locator("#state")).to_contain_text(f"{first['output_tokens']} out · {charge_of(first)}")
    assert re.search(r"/playground/c/[0-9a-f-]{36}/$", page.url)

    answer = player.ask("And a shilling?")
    second = player.charged(2)
    expect(answer.locator(".cost")).to_have_text(charge_of(second))
    assert second["input_tokens"] > first["input_tokens"]  # the whole conversation went along
    total = format_credits(first["cost_nanos"] + second["cost_nanos"])
    expect(page.locator("#chat-total")).to_have_text(f"{total} credits")
    expect(answer.get_by_role("button", name="Fork from here")).to_be_visible()  # it is kept

    page.reload()
    expect(page.locator(".message")).to_have_count(4)
    expect(page.locator(".message strong").first).to_have_text("Two")
    expect(page.locator(".message .cost").last).to_have_text(charge_of(second))
    expect(page.get_by_label("Model", exact=True)).to_have_value("play-chat")
    key = player.site.query("select name, scopes from accounts_apikey where organization_id = %s", player.organization)
    assert key == [{"name": "Playground", "scopes": []}]
    page.locator(".message .cost").last.click()
    expect(page.get_by_text(charge_of(second)).first).to_be_visible()


def test_stop_ends_the_answer_and_the_charge_is_told_when_it_is_known(player: Player) -> None:
    page = player.open("?model=play-chat")
    player.page.get_by_label("Message", exact=True).fill("[[words=200; slow=30ms]] Tell me a long story")
    page.get_by_role("button", name="Send").dblclick()  # the second click falls on Stop, and is not meant for it
    answer = page.locator(".message[data-role=assistant]")
    expect(answer.locator(".text")).to_contain_text("sandbox")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(answer.locator(".ending")).to_have_text("Stopped")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    record = player.charged(1)
    assert record["outcome"] == "client_closed"
    expect(answer.locator(".cost")).to_have_text(charge_of(record), timeout=30_000)
    said = answer.locator(".text").inner_text()
    page.reload()
    expect(answer.locator(".text")).to_have_text(said)
    expect(answer.locator(".ending")).to_have_text("Stopped")
    expect(answer.locator(".cost")).to_have_text(charge_of(record))


def test_retry_takes_the_place_of_an_answer_and_a_fork_leaves_both(player: Player) -> None:
    page = player.open("?model=play-chat")
    player.ask("[[words=5]] One")
    player.charged(1)
    kept_late = hold_answers(page)
    second = player.ask("[[words=6]] Two")
    player.charged(2)
    expect(second.locator(".cost")).not_to_be_empty()
    expect(second.get_by_role("button", name="Retry")).to_be_disabled()  # until the answer is kept
    wait_for(lambda: kept_late or page.wait_for_timeout(20), timeout_s=30, what="the answer's keeping")
    kept_late.pop().continue_()
    page.unroute("**/messages")
    second.get_by_role("button", name="Retry").click()
    player.charged(3)
    expect(page.locator(".message")).to_have_count(4)
    expect(second.locator(".cost")).not_to_be_empty()
    expect(second.get_by_role("button", name="Fork from here")).to_be_visible()
    original = page.url
    first = page.locator(".message[data-role=assistant]").first
    expect(first.get_by_role("button", name="Retry")).to_be_hidden()
    first.get_by_role("button", name="Fork from here").click()
    expect(page.get_by_text("Forked: this is a conversation of its own.")).to_be_visible()
    expect(page.locator(".message")).to_have_count(2)
    assert page.url != original
    player.ask("Elsewhere")
    player.charged(4)
    page.goto(original)
    expect(page.locator(".message")).to_have_count(4)


def hold_answers(page: Page) -> list[Route]:
    """Answers that are to be kept stay in the list until they are let go."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        if "assistant" in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    page.route("**/messages", hold)
    return held


def test_conversations_are_searched_renamed_exported_and_deleted(player: Player) -> None:
    page = player.open("?model=play-chat")
    player.ask("[[say=Blue]] Which colour has the sky?")
    player.charged(1)
    expect(page.locator(".talks a")).to_have_count(1)
    player.open("?model=play-chat")
    player.ask("[[say=Green]] Which colour has the grass?")
    player.charged(2)
    expect(page.locator(".talks a")).to_have_count(2)
    expect(page.locator(".talks a[aria-current]")).to_contain_text("grass")

    page.get_by_label("Search conversations").press_sequentially("blue")
    expect(page.locator(".talks a")).to_have_count(1)
    page.locator(".talks a").click()
    expect(page.locator("#chat-title")).to_contain_text("sky")

    page.locator("#chat-menu summary").click()
    page.get_by_role("link", name="Rename").click()
    page.get_by_role("dialog").get_by_label("Title").fill("Weather")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    expect(page.locator("#chat-title")).to_have_text("Weather")

    page.locator("#chat-menu summary").click()
    with page.expect_download() as told:
        page.get_by_role("link", name="Export as JSON").click()
    exported = json.loads(Path(told.value.path()).read_text())
    assert [message["role"] for message in exported["messages"]] == ["user", "assistant"]
    assert exported["answers"][0]["cost_credits"] == format_credits(player.records()[0]["cost_nanos"])
    with page.expect_download() as told:
        page.get_by_role("link", name="Export as Markdown").click()
    assert "## play-chat\n\nBlue\n\n" in Path(told.value.path()).read_text()

    page.get_by_role("link", name="Delete").click()
    dialog = page.get_by_role("dialog", name="Delete “Weather”?")
    dialog.get_by_role("link", name="Cancel").click()
    expect(dialog).not_to_be_visible()
    page.locator("#chat-menu summary").click()
    page.get_by_role("link", name="Delete").click()
    dialog.get_by_role("button", name="Delete conversation").click()
    expect(page.get_by_text("Deleted “Weather”.")).to_be_visible()
    expect(page.locator(".talks a")).to_have_count(1)


def test_nothing_that_a_model_writes_is_run_or_loaded(player: Player) -> None:
    page = player.open("?model=play-chat")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    evil = (
        "# Title\n\n<img src=x onerror=alert(1)><script>alert(2)</script> ![p](https://evil.example/p.png)"
        " [a](javascript:alert(3)) <a href='x' style='position:fixed' onclick=alert(4)>b</a>"
        "\n\n```python\nprint('<b>')\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[ok](https://good.example/)"
    )
    answer = player.ask(f"[[say={evil.replace(';', ',')}]]")
    expect(answer.locator("h1")).to_have_text("Title")
    expect(answer.locator(".code pre")).to_contain_text("print('<b>')")
    expect(answer.locator("table td").first).to_have_text("1")
    text = answer.locator(".text")
    assert text.locator("img, script, [onclick], [onerror], [style]").count() == 0
    links = [link.get_attribute("href") for link in text.locator("a[href]").all()]
    assert links == ["https://evil.example/p.png", "https://good.example/"]
    assert not [url for url in asked if "evil" in url]
    answer.locator(".code").get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()").strip() == "print('<b>')"


def test_pictures_go_to_models_that_see(player: Player) -> None:
    page = player.open("?model=play-blind")
    expect(page.locator("#picture")).to_be_disabled()
    page.get_by_role("button", name="Search models").click()
    page.get_by_label("Search models", exact=True).last.fill("vision")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Model", exact=True)).to_have_value("play-chat")
    red = {"name": "red.png", "mimeType": "image/png", "buffer": picture("red", (3000, 2000))}
    page.locator("#picture").set_input_files([red])
    expect(page.locator("#attached img")).to_have_count(1)
    with page.expect_request("**/v1/chat/completions") as sent:
        player.ask("What is this?")
    parts = sent.value.post_data_json["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url"]
    assert parts[1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    player.charged(1)
    page.get_by_role("button", name="Code").click()
    expect(page.locator("#code-curl-text")).to_contain_text("data:image/jpeg;base64,BASE64")
    page.keyboard.press("Escape")
    page.reload()
    expect(page.locator(".message .pictures img")).to_have_count(1)


def test_parameters_are_sent_kept_and_in_the_code(player: Player) -> None:
    page = player.open("?model=play-chat")
    page.get_by_text("System prompt and parameters").click()
    page.get_by_label("System prompt").fill("Answer in Latin.")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Max tokens").fill("7")
    with page.expect_request("**/v1/chat/completions") as sent:
        answer = player.ask("Hello")
    body = sent.value.post_data_json
    assert body["messages"][0] == {"role": "system", "content": "Answer in Latin."}
    assert (body["temperature"], body["max_completion_tokens"]) == (0.5, 7)
    assert "top_p" not in body
    expect(answer.locator(".ending")).to_have_text("Cut at the token limit")
    assert player.charged(1)["output_tokens"] == 7
    page.get_by_role("button", name="Code").click()
    page.get_by_role("tab", name="Python").click()
    code = page.locator("#code-python-text").inner_text()
    compile(code, "snippet", "exec")
    assert "temperature=0.5" in code
    assert "Answer in Latin." in code
    page.keyboard.press("Escape")
    page.reload()
    expect(page.get_by_label("System prompt")).to_have_value("Answer in Latin.")
    expect(page.locator("#parameters-set")).to_have_text("3 set")


def test_an_error_is_told_and_the_question_can_be_asked_again(player: Player) -> None:
    page = player.open("?model=play-chat")
    tag = secrets.token_hex(4)
    page.get_by_label("Message", exact=True).fill(f"[[status=500; tag={tag}; times=1]] Hello")
    page.keyboard.press("Control+Enter")
    trouble = page.locator("#trouble")
    expect(trouble).to_be_visible()
    expect(page.locator(".message")).to_have_count(1)
    page.reload()  # the question is kept, and can still be asked
    expect(trouble).to_contain_text("There is no answer to your last message yet.")
    trouble.get_by_role("button", name="Try again").click()
    expect(page.locator(".message[data-role=assistant] .cost")).not_to_be_empty()
    expect(trouble).not_to_be_visible()
    player.complaints.clear()  # Chromium logs the 5xx


def test_without_credit_the_way_to_it_is_shown(browser: Browser, web: Service, site: Installation) -> None:
    context = browser.new_context()
    poor = Player(context, web, site, credit=0)
    site.query(
        "update billing_account set credit_limit = 0 where organization_id = %s and posted = 0", poor.organization
    )
    page = poor.open("?model=play-chat")
    page.get_by_label("Message", exact=True).fill("[[words=4000]] Hello")
    page.keyboard.press("Control+Enter")
    link = page.locator("#trouble").get_by_role("link", name="Add credit")
    expect(link).to_be_visible()
    link.click()
    expect(page.get_by_role("heading", name="Billing")).to_be_visible()
    context.close()


def test_a_pass_opens_no_more_than_the_playground_needs(player: Player) -> None:
    page = player.open("?model=play-chat")
    tried = page.evaluate(
        """async () => {
          const { root, post } = Playground;
          const { value } = await post(root.dataset.pass);
          const ask = async (path, method) => {
            const body = method === "POST" ? JSON.stringify({ model: "play-chat", input: "x" }) : undefined;
            const headers = { Authorization: `Bearer ${value}`, "Content-Type": "application/json" };
            const answer = await fetch(path, { method, headers, body, credentials: "omit" });
            return [answer.status, (await answer.json()).error?.code ?? null];
          };
          return [
            await ask("/v1/models", "GET"),
            await ask("/v1/responses", "POST"),
            await ask("/v1/realtime/client_secrets", "POST"),
            await ask("/v1/credits/balance", "GET"),
          ];
        }"""
    )
    assert tried == [[200, None], [403, "scope_missing"], [403, "scope_missing"], [401, "invalid_api_key"]]
    player.complaints.clear()  # Chromium logs each refusal
