"""Code blocks of the guides, and words of code in a sentence."""

import re
from typing import Any

from django import template
from django.template.base import FilterExpression, NodeList, Parser, Token
from django.template.loader import render_to_string
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

_WORDS = re.compile(r"`([^`]+)`")


class CodeNode(template.Node):
    """What stands between the tags, shown as it is, under a label and with a button that copies it."""

    def __init__(self, nodelist: NodeList, name: FilterExpression, label: FilterExpression) -> None:
        self.nodelist, self.name, self.label = nodelist, name, label

    def render(self, context: template.Context) -> SafeString:
        was_escaping, context.autoescape = context.autoescape, False
        code = self.nodelist.render(context).strip("\n")
        context.autoescape = was_escaping
        target = f"code-{self.name.resolve(context)}"
        button = render_to_string("components/copy_button.html", {"target": target})
        return format_html(
            '<div class="code"><header><span>{}</span>{}</header><pre tabindex="0"><code id="{}">{}</code></pre></div>',
            self.label.resolve(context),
            button,
            target,
            escape(str(code)),
        )


@register.tag
def code(parser: Parser, token: Token) -> CodeNode:
    """`{% code "name" "Label" %} … {% endcode %}`: the name is unique on the page."""
    _, name, label = token.split_contents()
    nodelist = parser.parse(("endcode",))
    parser.delete_first_token()
    return CodeNode(nodelist, parser.compile_filter(name), parser.compile_filter(label))


@register.filter
def code_words(text: Any) -> SafeString:
    """A sentence with its `words` in backticks as code."""
    return mark_safe(_WORDS.sub(r"<code>\1</code>", escape(str(text))))  # noqa: S308 - escaped before
