"""The playground in a real browser, before the product's real processes and the simulated provider.

Whatever a page says that something cost is compared with the usage record of that very request.
"""

import base64
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Response, expect, sync_playwright

from billing.money import format_credits
from config.tests.processes import Installation, Service, wait_for
from gallery.tests.kit import picture
from sandbox.provider.media import wave

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("playground")]

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]  # fmt: skip
PASSWORD = "copper-pine-42"
KEY = "a-key-of-the-sandbox"
CREDIT = 10_000_000_000
WIDTHS = {1280: 900, 390: 844}
CHAT = "/v1/chat/completions"
LONG = """A **list**:

- one
- `two`

```python
print('a line of code that is long enough to run out of a narrow page, and then some more')
```

| coin | pence |
|---|---|
| tuppence | 2 |"""
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


@pytest.fixture(scope="module")
def web(installation: Installation) -> Service:
    """A web worker as in production, whose models are the simulated provider's."""
    provider = installation.provider(KEY)
    for name, options in MODELS.items():
        installation.clerk.model(name=name, base_url=f"{provider.url}/v1", api_key=KEY, **options)
    installation.query("""update proxy_model set capabilities = '["vision", "tools"]' where name = 'play-chat'""")
    installation.manage("collectstatic", "--noinput", "--verbosity", "0")
    return installation.web()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1, but there is no chromium on PATH; CHROMIUM may name one")
        pytest.skip("no chromium on PATH; CHROMIUM may name one")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


class Player:
    """A member with a browser, whose organization has credit."""

    def __init__(self, context: BrowserContext, web: Service, site: Installation, *, credit: int = CREDIT) -> None:
        self.site = site
        self.page: Page = context.new_page()
        self.page.set_default_timeout(15_000)
        self.complaints: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
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
            lambda: len(rows := self.records()) == count and rows[-1], timeout_s=15, what=f"{count} usage records"
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


@pytest.fixture
def player(browser: Browser, web: Service, site: Installation) -> Iterator[Player]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write", "microphone"], origin=web.url)
    made = Player(context, web, site)
    yield made
    context.close()
    assert made.complaints == []


def credits(record: dict[str, Any]) -> str:
    return f"{format_credits(record['cost_nanos'])} credits"


# ---------------------------------------------------------------- Chat


def test_a_conversation_is_answered_charged_and_there_again_after_a_reload(player: Player) -> None:
    page = player.open("")
    page.get_by_label("Model", exact=True).select_option("play-chat")
    expect(page.locator("#model-facts")).to_contain_text("$0.30 in, $1.20 out per 1M tokens · Vision, Tools")
    answer = player.ask("[[say=**Two** pence.]] What is a tuppence?")
    expect(answer.locator("strong")).to_have_text("Two")
    first = player.charged(1)
    assert (first["model"], first["end_user"], first["outcome"]) == ("play-chat", player.email, "completed")
    assert first["cost_nanos"] == first["input_tokens"] * 300 + first["output_tokens"] * 1_200
    expect(answer.locator(".cost")).to_have_text(credits(first))
    expect(page.locator("#state")).to_contain_text(f"{first['output_tokens']} out · {credits(first)}")
    assert re.search(r"/playground/c/[0-9a-f-]{36}/$", page.url)

    answer = player.ask("And a shilling?")
    second = player.charged(2)
    expect(answer.locator(".cost")).to_have_text(credits(second))
    assert second["input_tokens"] > first["input_tokens"]  # the whole conversation went along
    total = format_credits(first["cost_nanos"] + second["cost_nanos"])
    expect(page.locator("#chat-total")).to_have_text(f"{total} credits")

    page.reload()
    expect(page.locator(".message")).to_have_count(4)
    expect(page.locator(".message strong").first).to_have_text("Two")
    expect(page.locator(".message .cost").last).to_have_text(credits(second))
    expect(page.get_by_label("Model", exact=True)).to_have_value("play-chat")
    key = player.site.query("select name, scopes from accounts_apikey where organization_id = %s", player.organization)
    assert key == [{"name": "Playground", "scopes": []}]
    page.locator(".message .cost").last.click()
    expect(page.get_by_text(credits(second)).first).to_be_visible()


def test_stop_ends_the_answer_and_the_charge_is_told_when_it_is_known(player: Player) -> None:
    page = player.open("?model=play-chat")
    player.page.get_by_label("Message", exact=True).fill("[[words=200; slow=30ms]] Tell me a long story")
    page.get_by_role("button", name="Send").click()
    answer = page.locator(".message[data-role=assistant]")
    expect(answer.locator(".text")).to_contain_text("sandbox")
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(answer.locator(".ending")).to_have_text("Stopped")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    record = player.charged(1)
    assert record["outcome"] == "client_closed"
    expect(answer.locator(".cost")).to_have_text(credits(record), timeout=30_000)
    said = answer.locator(".text").inner_text()
    page.reload()
    expect(answer.locator(".text")).to_have_text(said)
    expect(answer.locator(".ending")).to_have_text("Stopped")
    expect(answer.locator(".cost")).to_have_text(credits(record))


def test_retry_takes_the_place_of_an_answer_and_a_fork_leaves_both(player: Player) -> None:
    page = player.open("?model=play-chat")
    player.ask("[[words=5]] One")
    player.charged(1)
    second = player.ask("[[words=6]] Two")
    player.charged(2)
    expect(second.locator(".cost")).not_to_be_empty()
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


# ---------------------------------------------------------------- Images


def test_an_image_is_shown_while_it_is_made_and_leads_to_the_gallery(player: Player) -> None:
    page = player.open("images/?model=play-image&prompt=A+red+fox")
    page.get_by_label("Size").select_option("1024x1024")
    page.get_by_label("Quality").select_option("low")
    with page.expect_request("**/v1/images/generations") as sent:
        page.get_by_role("button", name="Generate").click()
    assert sent.value.post_data_json["partial_images"] == 2
    result = page.locator(".result")
    expect(result.locator(".caption")).to_have_text("A red fox")
    record = player.charged(1)
    expect(page.locator("#state")).to_contain_text(credits(record))
    assert record["cost_nanos"] == record["input_tokens"] * 5_000 + 272 * 30_000
    shown = result.locator("img").get_attribute("src") or ""
    result.get_by_role("link", name="In the gallery").click()
    expect(page.locator("#prompt")).to_have_text("A red fox")
    kept = page.locator("figure img").get_attribute("src") or ""
    data = page.request.get(kept).body()
    assert base64.b64encode(data).decode() == shown.partition(",")[2]

    page.get_by_role("link", name="Open in playground").click()
    expect(page.get_by_label("Prompt")).to_have_value("A red fox")
    expect(page.locator("#mask")).to_be_visible()
    expect(page.get_by_role("button", name="Edit", exact=True)).to_be_enabled()


def test_what_is_painted_is_the_mask(player: Player) -> None:
    page = player.open("images/?model=play-image")
    page.get_by_text("Edit a picture").click()
    expect(page.get_by_role("button", name="Edit", exact=True)).to_be_disabled()
    page.locator("#source").set_input_files(
        [{"name": "red.png", "mimeType": "image/png", "buffer": picture("red", (400, 200))}]
    )
    board = page.locator("#mask-canvas")
    expect(board).to_be_visible()
    box = board.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    board.focus()
    for key in ["ArrowRight"] * 10 + ["Space"]:
        page.keyboard.press(key)
    page.get_by_role("button", name="Undo").click()
    page.get_by_label("Prompt").fill("A blue stripe")
    parts: list[str] = []
    page.route("**/v1/images/edits", lambda route: (parts.append("asked"), route.continue_())[1])
    painted = page.evaluate(
        """async () => {
          const canvas = document.getElementById("mask-canvas");
          const alpha = (x) => canvas.getContext("2d").getImageData(x * canvas.width, canvas.height / 2, 1, 1).data[3];
          return [canvas.width, canvas.height, alpha(0.3) > 0, alpha(0.75) > 0];
        }"""
    )
    assert painted == [400, 200, True, False]
    page.get_by_role("button", name="Edit", exact=True).click()
    expect(page.locator(".result .caption")).to_have_text("A blue stripe")
    record = player.charged(1)
    assert record["endpoint"] == "/v1/images/edits"
    # The provider counts 200 tokens for each picture that comes in: the picture and its mask.
    assert record["image_input_tokens"] == 400
    expect(page.locator("#state")).to_contain_text(credits(record))
    assert parts == ["asked"]


# ---------------------------------------------------------------- Sound


def test_a_file_and_a_voice_become_text(player: Player) -> None:
    page = player.open("transcription/?model=play-hears")
    expect(page.get_by_role("button", name="Transcribe")).to_be_disabled()
    sound = {"name": "talk.wav", "mimeType": "audio/wav", "buffer": wave("one two three four " * 10)}
    page.locator("#file").set_input_files([sound])
    page.get_by_role("button", name="Transcribe").click()
    expect(page.locator("#transcript")).to_have_text("A recording of 2.0 seconds called talk.wav.")
    expect(page.locator("#state")).to_contain_text(credits(player.charged(1)))

    page.get_by_role("button", name="Record").click()
    expect(page.locator("#state")).to_contain_text("Recording, 1 s")
    page.get_by_role("button", name="Stop recording").click()
    page.get_by_role("button", name="Transcribe").click()
    expect(page.locator("#transcript")).to_contain_text("seconds called recording.wav.")
    expect(page.locator("#state")).to_contain_text(credits(player.charged(2)))


@pytest.mark.parametrize("model", ["play-speaks", "play-talks"])
def test_text_becomes_sound_that_plays(player: Player, model: str) -> None:
    page = player.open(f"speech/?model={model}")
    page.get_by_label("Text").fill("Take care of the pence.")
    page.get_by_label("Format").select_option("wav")
    page.get_by_label("Text").press("Control+Enter")
    spoken = page.locator(".spoken")
    record = player.charged(1)
    expect(spoken.locator(".cost")).to_have_text(credits(record))
    if model == "play-speaks":
        assert record["cost_nanos"] == 23 * 15_000  # $15 a million characters
    audio = spoken.locator("audio")
    wait_for(lambda: audio.evaluate("audio => audio.duration > 0.1"), timeout_s=10, what="sound that can be played")
    with page.expect_download() as told:
        spoken.get_by_role("link", name="Download").click()
    assert Path(told.value.path()).read_bytes()[:4] == b"RIFF"


# ---------------------------------------------------------------- Looks


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_tab_fits(width: int, theme: Any, browser: Browser, web: Service, site: Installation) -> None:
    context = browser.new_context(viewport={"width": width, "height": WIDTHS[width]}, color_scheme=theme)
    player = Player(context, web, site)
    page = player.open("?model=play-chat")
    problems = _problems(player, "playground-new", width, theme)
    player.ask(f"[[say={LONG}]] Coins?")
    player.charged(1)
    expect(page.locator(".message .cost").last).not_to_be_empty()
    expect(page.locator(".message .cost").last).to_be_in_viewport()
    problems += _problems(player, "playground-chat", width, theme)
    page.get_by_role("button", name="Code").click()
    problems += _problems(player, "playground-code", width, theme)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Search models").click()
    problems += _problems(player, "playground-models", width, theme)
    player.open("images/?model=play-image")
    problems += _problems(player, "playground-images-new", width, theme)
    page.get_by_label("Prompt").fill("A red fox in the snow")
    page.get_by_role("button", name="Generate").click()
    player.charged(2)
    expect(page.locator("#state")).to_contain_text("credits")
    page.locator(".result").get_by_role("button", name="Edit").click()
    expect(page.locator("#mask")).to_be_visible()
    problems += _problems(player, "playground-images", width, theme)
    player.open("transcription/")
    problems += _problems(player, "playground-transcription", width, theme)
    player.open("speech/?model=play-speaks")
    page.get_by_label("Text").fill("Take care of the pence.")
    page.get_by_role("button", name="Speak").click()
    expect(page.locator(".spoken .cost")).not_to_be_empty()
    problems += _problems(player, "playground-speech", width, theme)
    context.close()
    assert problems == []


def _problems(player: Player, name: str, width: int, theme: str) -> list[str]:
    page, found = player.page, [f"{name}: {complaint}" for complaint in player.complaints]
    player.complaints.clear()
    if page.evaluate("document.documentElement.scrollWidth") > width:
        found.append(f"{name}: scrolls sideways")
    if page.locator("h1").count() != 1:
        found.append(f"{name}: {page.locator('h1').count()} main headings")
    nameless = page.evaluate(
        """[...document.querySelectorAll("a, button, summary, input:not([type=hidden]), select, textarea")]
           .filter(e => e.checkVisibility() && !(e.innerText || "").trim() && !e.ariaLabel && !e.labels?.length
                        && !e.getAttribute("aria-labelledby") && !e.textContent.trim())
           .map(e => e.outerHTML.slice(0, 80))"""
    )
    directory = os.environ.get("SCREENSHOTS")
    if directory:
        page.screenshot(path=Path(directory) / f"{name}-{width}-{theme}.png", full_page=True)
    return found + [f"{name}: has no name: {html}" for html in nameless]


def test_our_own_script_and_style_stay_small(player: Player) -> None:
    for path in ("", "images/", "transcription/", "speech/"):
        sizes: dict[str, int] = {}
        player.page.on("response", lambda answer, sizes=sizes: _weigh(answer, sizes))
        player.open(path)
        player.page.wait_for_load_state("networkidle")
        assert 0 < sum(sizes.values()) <= 150_000, (path, sizes)


def _weigh(answer: Response, sizes: dict[str, int]) -> None:
    if re.search(r"/static/(?!vendor/).*\.(js|css)$", answer.url):
        sizes[answer.url] = len(answer.body())
