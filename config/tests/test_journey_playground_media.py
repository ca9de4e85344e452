"""The playground's images and sound in a real browser, and the looks of every tab.

`SCREENSHOTS=directory` keeps a picture of every tab at both widths in both themes.
"""

import base64
import os
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Response, expect

from config.tests.chromium import LOOKS, WIDTHS
from config.tests.playground_kit import (  # noqa: F401 - fixtures
    Player,
    charge_of,
    new_player,
    running_web,
)
from config.tests.processes import Installation, Service, wait_for
from gallery.tests.kit import picture
from sandbox.provider.media import wave

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.xdist_group("playground")]

LONG = """A **list**:

- one
- `two`

```python
print('a line of code that is long enough to run out of a narrow page, and then some more')
```

| coin | pence |
|---|---|
| tuppence | 2 |"""


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
    expect(page.locator("#state")).to_contain_text(charge_of(record))
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

    page.goto(f"{player.home}images/")
    page.locator("input[name=image]").check()
    with page.expect_download():
        page.get_by_role("button", name="Zip").click()
    page.get_by_role("button", name="Delete").click()  # the form is not spent by the download
    expect(page.get_by_role("heading", name="Delete 1 image?")).to_be_visible()


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
    expect(page.locator("#state")).to_contain_text(charge_of(record))
    assert parts == ["asked"]


# ---------------------------------------------------------------- Sound


def test_a_file_and_a_voice_become_text(player: Player) -> None:
    page = player.open("transcription/?model=play-hears")
    expect(page.get_by_role("button", name="Transcribe")).to_be_disabled()
    sound = {"name": "talk.wav", "mimeType": "audio/wav", "buffer": wave("one two three four " * 10)}
    page.locator("#file").set_input_files([sound])
    page.get_by_role("button", name="Transcribe").click()
    expect(page.locator("#transcript")).to_have_text("A recording of 2.0 seconds called talk.wav.")
    expect(page.locator("#state")).to_contain_text(charge_of(player.charged(1)))

    page.get_by_role("button", name="Record").click()
    expect(page.locator("#state")).to_contain_text("Recording, 1 s")
    page.get_by_role("button", name="Stop recording").click()
    page.get_by_role("button", name="Transcribe").click()
    expect(page.locator("#transcript")).to_contain_text("seconds called recording.wav.")
    expect(page.locator("#state")).to_contain_text(charge_of(player.charged(2)))


@pytest.mark.parametrize("model", ["play-speaks", "play-talks"])
def test_text_becomes_sound_that_plays(player: Player, model: str) -> None:
    page = player.open(f"speech/?model={model}")
    page.get_by_label("Text").fill("Take care of the pence.")
    page.get_by_label("Format").select_option("wav")
    page.get_by_label("Text").press("Control+Enter")
    spoken = page.locator(".spoken")
    record = player.charged(1)
    expect(spoken.locator(".cost")).to_have_text(charge_of(record))
    if model == "play-speaks":
        assert record["cost_nanos"] == 23 * 15_000  # $15 a million characters
    audio = spoken.locator("audio")
    wait_for(lambda: audio.evaluate("audio => audio.duration > 0.1"), timeout_s=10, what="sound that can be played")
    with page.expect_download() as told:
        spoken.get_by_role("link", name="Download").click()
    assert Path(told.value.path()).read_bytes()[:4] == b"RIFF"


# ---------------------------------------------------------------- Looks


@pytest.mark.parametrize(("width", "theme"), LOOKS)
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
