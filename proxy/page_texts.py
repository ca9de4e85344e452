"""Pages whose text is Markdown: the changelog, and what an operator says of the law."""

from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_safe
from markdown_it import MarkdownIt

CHANGELOG = Path(__file__).resolve().parent.parent / "CHANGELOG.md"
LEGAL: dict[str, tuple[str, str]] = {
    "terms": ("Terms of service", "LEGAL_TERMS"),
    "privacy": ("Privacy", "LEGAL_PRIVACY"),
    "imprint": ("Imprint", "LEGAL_IMPRINT"),
}
# HTML in the source is shown, not obeyed; links that are no addresses of the web stay text.
_markdown = MarkdownIt("commonmark", {"html": False}).enable("table")


@cache
def rendered(text: str) -> SafeString:
    """Markdown as HTML, without its first heading where that is the page's own; headings begin at the second level."""
    tokens = _markdown.parse(text)
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        tokens = tokens[3:]
    for token in tokens:
        if token.tag == "h1":
            token.tag = "h2"
    return mark_safe(_markdown.renderer.render(tokens, _markdown.options, {}))  # noqa: S308 - HTML is off


@require_safe
def changelog(request: HttpRequest) -> HttpResponse:
    context: dict[str, Any] = {"title": "Changelog", "text": rendered(_changelog())}
    return render(request, "proxy/page_text.html", context)


@require_safe
def legal(request: HttpRequest, page: str) -> HttpResponse:
    """One page of `LEGAL`; the address patterns name no other."""
    title, setting = LEGAL[page]
    text = settings.LEGAL_TEXTS[page]
    context = {"title": title, "text": rendered(text) if text.strip() else "", "setting": setting}
    return render(request, "proxy/page_text.html", context)


@cache
def _changelog() -> str:
    return CHANGELOG.read_text(encoding="utf-8") if CHANGELOG.is_file() else ""
