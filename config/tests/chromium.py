"""The system's Chromium for tests of pages."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
# Each width and each theme once; all four where pictures are kept.
WIDTHS = {1280: 900, 390: 844}
EACH_ONCE = [(1280, "light"), (390, "dark")]
LOOKS = [*EACH_ONCE, *([(1280, "dark"), (390, "light")] if os.environ.get("SCREENSHOTS") else [])]
# How long a page may take: generous, because two cores may run the product's processes twice over meanwhile.
PATIENCE_MS = 30_000


@contextmanager
def started(*arguments: str) -> Iterator[Browser]:
    """A browser of its own; without Chromium the test is skipped, or fails where `REQUIRE_BROWSER=1`.

    `CHROMIUM` names one that is not on PATH.
    """
    found = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1, but there is no Chromium on PATH; CHROMIUM may name one")
        pytest.skip("no Chromium on PATH; CHROMIUM may name one")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=[*ARGUMENTS, *arguments])
        yield browser
        browser.close()


def complaints_of(page: Page) -> list[str]:
    """Grows by the errors of the page's console and of its scripts, from now on."""
    said: list[str] = []
    page.on("console", lambda it: said.append(f"{it.text} {it.location.get('url')}") if it.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return said
