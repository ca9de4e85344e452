"""The installed `pixie` against the running product: pictures, chats, receipts, buying in a browser, the operator."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from config.tests import books
from config.tests.chromium import PATIENCE_MS
from config.tests.pixie_kit import ADMIN_TOKEN, CREDIT, Pixie, open_shop
from config.tests.processes import HOST, Installation, Service

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("pixie")]


@pytest.fixture(scope="module")
def shop(installation: Installation) -> tuple[Service, Service]:
    return open_shop(installation, "pixie")


@pytest.fixture
def customer(site: Installation) -> dict[str, Any]:
    made: dict[str, Any] = site.clerk.organization(name="pixies", credit_nanos=1_000 * CREDIT)
    return made


@pytest.fixture
def pixie(shop: tuple[Service, Service], customer: dict[str, Any], tmp_path: Path) -> Pixie:
    return Pixie(tmp_path, shop[0].url, customer["secret"])


@pytest.fixture
def page(browser: Browser, shop: tuple[Service, Service]) -> Iterator[Page]:
    context = browser.new_context(base_url=shop[0].url)
    context.set_default_timeout(PATIENCE_MS)
    yield context.new_page()
    context.close()


def test_a_key_is_kept_and_sees_the_server(pixie: Pixie, customer: dict[str, Any]) -> None:
    assert pixie.json("health")["status"] == "ok"
    key, pixie.key = pixie.key, ""
    assert "pixie auth login" in pixie("credits", code=3)
    pixie("auth", "login", "--with-key", stdin="sk-tup-" + "x" * 50, code=3)
    pixie("auth", "login", "--with-key", stdin=key)
    assert pixie.json("auth", "status")["organization"] == customer["slug"]
    assert pixie("credits", "-q") == "1000.0000\n"
    names = pixie("models", "pixie-", "-q").split()
    assert names == ["pixie-chat", "pixie-image"]
    pixie("auth", "logout")
    pixie("auth", "status", code=3)


def test_a_picture_is_made_changed_paid_and_found_in_the_gallery(
    pixie: Pixie, site: Installation, customer: dict[str, Any]
) -> None:
    order = ("A fox, in snow", "--model", "pixie-image", "--quality", "low", "--size", "1024x1024")
    estimate = pixie.json("credits", "estimate", *order)
    assert estimate["is_affordable"]
    made = pixie.json("generate", *order, "-n", "2", "-o", "out")
    assert [image["path"] for image in made["images"]] == ["out/a-fox-in-snow-1.png", "out/a-fox-in-snow-2.png"]
    data = (pixie.home / "out/a-fox-in-snow-1.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    # text tokens at 5000 n$, 272 image tokens a picture at 40000 n$
    spent = made["usage"]["input_tokens"] * 5_000 + 2 * 272 * 40_000
    assert float(made["cost_credits"]) * CREDIT == spent

    out = pixie("edit", "out/a-fox-in-snow-1.png", "a rainbow", "--model", "pixie-image", "--quality", "low",
                "--mask", "out/a-fox-in-snow-2.png", "-o", "out")  # fmt: skip
    assert out == "out/a-rainbow-1.png\n"

    listed = pixie.json("gallery", "list")["data"]
    assert [image["prompt"] for image in listed] == ["a rainbow", "A fox, in snow", "A fox, in snow"]
    assert pixie("gallery", "get", listed[1]["id"], "-o", "again") == "again/a-fox-in-snow-1.png\n"
    assert (pixie.home / "again/a-fox-in-snow-1.png").read_bytes() in {
        data, (pixie.home / "out/a-fox-in-snow-2.png").read_bytes()
    }  # fmt: skip
    assert pixie("gallery", "open", listed[0]["id"]).startswith(f"{pixie.url}/images/")
    charged = sum(row["cost_nanos"] for row in books.usage(site, customer["id"]))
    assert float(pixie("credits", "-q")) * CREDIT == 1_000 * CREDIT - charged


def test_a_preview_is_drawn_in_a_terminal_that_can(pixie: Pixie) -> None:
    """Unfinished pictures are asked for, and paid for, only where they are seen."""
    order = ("generate", "a hill", "--model", "pixie-image", "--quality", "low", "--preview", "2")
    assert pixie(*order) == "a-hill-1.png\n"
    pixie.more["PIXIE_PREVIEW"] = "kitty"
    running = pixie.start(*order)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (0, "a-hill-2.png\n")
    assert err.count("\x1b_Ga=T") == 2


def test_a_chat_streams_and_its_receipt_is_right(pixie: Pixie) -> None:
    talk = ("--model", "pixie-chat")
    assert pixie("chat", "[[say=two pence]]", *talk) == "two pence\n"
    assert "two pence" in pixie("chat", *talk, stdin="[[say=two pence]]")
    told = pixie.json("chat", "[[say=two pence; prompt-tokens=1000; cached-tokens=400; completion-tokens=7]]", *talk)
    assert told["content"] == "two pence"
    # 600 fresh tokens at 200, 400 cached at 50, 7 said at 800: 145,600 nano-dollars
    assert told["cost_credits"] == "0.01456"

    kept = pixie.home / "receipt.json"
    kept.write_text(pixie("receipt", "show", told["request_id"], "--json"))
    good = pixie.json("receipt", "verify", told["request_id"])
    assert (good["verified"], good["computed_credits"], good["charged_credits"]) == (True, "0.01456", "0.01456")
    assert pixie("receipt", "verify", str(kept), "-q") == "verified\n"
    changed = json.loads(kept.read_text())
    changed["document"]["charged_nanos"] -= 1
    kept.write_text(json.dumps(changed))
    assert "does not belong" in pixie("receipt", "verify", str(kept), code=9)
    pixie("receipt", "show", f"req_{'0' * 32}", code=5)


def test_what_goes_wrong_has_its_exit_code(pixie: Pixie, site: Installation, shop: tuple[Service, Service]) -> None:
    assert "pixie models" in pixie("chat", "hi", "--model", "none", code=5)
    poor = site.clerk.organization(name="poor")
    broke = Pixie(pixie.home, pixie.url, poor["secret"])
    assert f"{shop[0].url}/o/{poor['slug']}/billing/" in broke("chat", "hi", "--model", "pixie-chat", code=6)
    broke.key = "sk-tup-" + "x" * 50
    broke("credits", code=3)
    narrow = site.clerk.issue_key(organization_id=poor["id"], scopes=["chat"])
    broke.key = narrow["secret"]
    assert "scope" in broke("credits", code=4)


def test_the_operator_gives_and_takes_credit(pixie: Pixie, customer: dict[str, Any], site: Installation) -> None:
    adjust = ("admin", "adjust", customer["slug"])
    pixie.more["PIXIE_ADMIN_TOKEN"] = "guessed"
    pixie(*adjust, "5", "--reason", "sorry", code=3)
    pixie.more["PIXIE_ADMIN_TOKEN"] = ADMIN_TOKEN
    assert pixie(*adjust, "5.5", "--reason", "sorry", "-q") == "1005.5000\n"
    assert "--yes" in pixie(*adjust, "-0.5", "--reason", "oops", code=1)
    assert pixie.json(*adjust, "-0.5", "--reason", "oops", "--yes")["available"] == "1005.0000"
    assert float(pixie.json("admin", "stats")["outstanding"]) >= 1_005
    moved = pixie.json("credits", "transactions", "--limit", "2")["data"]
    assert [row["credits"] for row in moved] == ["-0.5000", "5.5000"]
    assert "sorry" in pixie("credits", "transactions")


@pytest.mark.browser
def test_credit_is_bought_in_a_browser_while_pixie_waits(pixie: Pixie, page: Page) -> None:
    assert "popular" in pixie("credits", "packs", "-q").split()
    running = pixie.start("credits", "buy", "popular", "--json")
    assert running.stderr is not None
    found = re.fullmatch(r"Pay here: (http\S+)\n", running.stderr.readline())
    assert found
    page.goto(found[1])
    page.get_by_role("button", name="Pay 19.99 USD").click()
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    told = json.loads(out)
    assert told["paid"]
    assert told["balance"]["available"] == "2800.0000"
    assert pixie("credits", "buy", "starter", "--timeout", "1", code=10).startswith(f"Pay here: http://{HOST}")
