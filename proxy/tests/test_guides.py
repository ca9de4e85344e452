"""Guides, changelog and legal pages; the code of the guides is code."""

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from proxy import error_reference, page_texts
from proxy.guides import GUIDES

pytestmark = pytest.mark.django_db

BLOCK = re.compile(r'<code id="code-([\w-]+)">(.*?)</code>', re.DOTALL)


def _text(response: Any) -> str:
    assert response.status_code == 200
    return response.content.decode()


def _blocks(slug: str) -> dict[str, str]:
    page = _text(Client().get(reverse("proxy:guide", args=[slug])))
    return {name: unescape(code) for name, code in BLOCK.findall(page)}


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.slug)
def test_each_guide_shows_its_code_with_names_that_are_unique(guide: Any) -> None:
    page = _text(Client().get(reverse("proxy:guide", args=[guide.slug])))
    names = [name for name, _ in BLOCK.findall(page)]
    assert names
    assert len(names) == len(set(names))
    assert "{{" not in page
    assert "{%" not in page


def test_the_python_of_the_guides_compiles() -> None:
    blocks = {name: code for guide in GUIDES for name, code in _blocks(guide.slug).items() if name.startswith("python")}
    assert len(blocks) >= 9
    for name, code in blocks.items():
        compile(code, name, "exec")


@pytest.mark.skipif(not shutil.which("node"), reason="no node here")
def test_the_javascript_of_the_guides_parses(tmp_path: Path) -> None:
    blocks = {name: code for guide in GUIDES for name, code in _blocks(guide.slug).items() if name.startswith("node")}
    assert len(blocks) >= 6
    for name, code in blocks.items():
        file = tmp_path / f"{name}.mjs"
        file.write_text(code)
        checked = subprocess.run(["node", "--check", file], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr


def test_the_error_guide_has_a_row_for_every_code() -> None:
    page = _text(Client().get(reverse("proxy:guide", args=["errors"])))
    assert all(f'<tr id="{entry.code}">' in page for entry in error_reference.entries())


def test_an_unknown_guide_is_not_found() -> None:
    assert Client().get(reverse("proxy:guide", args=["cobol"])).status_code == 404


def test_the_changelog_is_the_file() -> None:
    page = _text(Client().get(reverse("proxy:changelog")))
    assert "Keep a Changelog" in page
    assert page.count("<h1") == 1
    assert "<h2>Unreleased</h2>" in page


def test_a_legal_page_shows_what_the_operator_says_and_no_html_of_it(settings: Any) -> None:
    settings.LEGAL_TEXTS = {
        "terms": "# Terms\n\nBe **kind**. <script>alert(1)</script> [x](javascript:alert(1))",
        "privacy": "",
        "imprint": " ",
    }
    page = _text(Client().get(reverse("proxy:terms")))
    assert "<strong>kind</strong>" in page
    assert "<script>alert" not in page
    assert 'href="javascript' not in page
    assert page.count("<h1") == 1
    assert "has not published this page" in _text(Client().get(reverse("proxy:privacy")))
    assert "LEGAL_IMPRINT" not in _text(Client().get(reverse("proxy:imprint")))


def test_only_the_first_heading_of_a_text_is_the_pages_own() -> None:
    assert page_texts.rendered("# One\n\ntext\n\n# Two\n") == "<p>text</p>\n<h2>Two</h2>\n"
