"""Tags and filters of every page: icons, names of the site, the form field, the organization switcher."""

from collections.abc import Mapping
from typing import Any

from allauth.account.models import EmailAddress
from allauth.socialaccount.providers.base import Provider
from django import template
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import DisallowedHost
from django.forms import BoundField
from django.http import HttpRequest
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts import browsers
from accounts.access import can
from accounts.models import Membership, Organization, User

SWITCHER_SIZE = 30
BRANDS = frozenset({"apple", "facebook", "github", "google"})

register = template.Library()


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """The Lucide icon `name` of `static/icons.svg`, hidden from screen readers: the text beside it says the same."""
    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        css,
        static("icons.svg"),
        name,
    )


@register.simple_tag
def provider_icon(provider: Provider) -> SafeString:
    """The mark of a provider that people sign in with; a key for one that we have none of."""
    return icon(f"brand-{provider.id}" if provider.id in BRANDS else "key-round")


@register.simple_tag
def must_confirm_email(user: User) -> bool:
    """Whether `user` has an address to confirm before a second factor can be added."""
    return EmailAddress.objects.filter(user=user, verified=False).exists()


@register.simple_tag
def site_name() -> str:
    """The operator's name for the site; also where no context processor has run, as in the page of a server error."""
    return settings.SITE_NAME


@register.simple_tag
def is_self_hosted() -> bool:
    """Whether this installation sells no credit and lets organizations bring their own upstream keys."""
    return settings.IS_SELF_HOSTED


@register.simple_tag
def demo_login() -> str:
    """`email password` of the demo account, or nothing outside a demo."""
    return settings.DEMO_LOGIN


@register.simple_tag(takes_context=True)
def api_base(context: dict[str, Any]) -> str:
    """Where an SDK is pointed at: `https://host/v1`, as the reader's own browser reaches it."""
    request: HttpRequest | None = context.get("request")
    try:
        return request.build_absolute_uri("/v1") if request else f"{settings.SITE_URL}/v1"
    except DisallowedHost:  # this is the page that says so
        return f"{settings.SITE_URL}/v1"


@register.inclusion_tag("components/field.html")
def field(bound: BoundField, label: str = "") -> dict[str, Any]:
    """A form field with its label, help and errors."""
    return {
        "field": bound,
        "label": label or bound.label,
        "input_type": getattr(bound.field.widget, "input_type", ""),
        "is_group": bound.use_fieldset,
    }


@register.inclusion_tag("components/switcher.html")
def switcher(user: User | AnonymousUser, organization: Organization | None) -> dict[str, Any]:
    """The organizations of `user`, at most thirty, with the current one named. One query."""
    organizations = (
        list(user.organizations.order_by("-is_personal", "name")[:SWITCHER_SIZE]) if user.is_authenticated else []
    )
    return {"organizations": organizations, "organization": organization}


@register.filter
def may(membership: Membership | None, permission: str) -> bool:
    """Whether a member's role has a permission of `accounts.access`; nobody has none."""
    return bool(membership) and can(membership, permission)


@register.filter
def initials(name: str) -> str:
    """Up to two letters that stand for `name`: `Ada Lovelace` is AL, `ada@example.com` is A."""
    words = name.split("@", maxsplit=1)[0].replace(".", " ").replace("-", " ").replace("'", "").split()
    return "".join(word[0] for word in words[:2]).upper() or "?"


@register.filter
def browser(user_agent: str) -> str:
    """What a person calls the browser or program of a `User-Agent`: `Firefox on Windows`."""
    return browsers.name_of(user_agent)


@register.filter
def details(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """An audit entry's data in words: without what is empty, yes and no for booleans, lists with commas."""
    return [
        (name.replace("_", " "), _in_words(value)) for name, value in data.items() if value not in (None, "", [], {})
    ]


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@register.filter
def in_section(request: HttpRequest, names: str) -> bool:
    """Whether the current page is one of the space-separated URL `names` or URL namespaces of the navigation."""
    match = getattr(request, "resolver_match", None)
    return match is not None and match.view_name in names.split()
