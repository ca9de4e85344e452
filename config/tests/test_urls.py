"""Every address of the pages × everybody who may ask for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import pytest
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone

from billing import rates
from config.tests import pages_kit
from config.tests.pages_kit import ANONYMOUS, OUTSIDER, PEOPLE, STAFF, Cast

pytestmark = pytest.mark.django_db

# Tested by their own packages.
FOREIGN = ("accounts/", "admin/", "v1")
LOGIN = 302
ACCOUNT_PAGES = {"accounts:settings", "accounts:device", "accounts:request-key"}
PUBLIC_PAGES = frozenset(
    f"proxy:{page}"
    for page in ("catalogue", "compare", "guides", "docs", "redoc", "changelog", "terms", "privacy", "imprint")
)

EVERYBODY = dict.fromkeys(PEOPLE, 200)
SIGNED_IN = EVERYBODY | {ANONYMOUS: LOGIN}
MEMBERS = dict.fromkeys(PEOPLE, 200) | {ANONYMOUS: LOGIN, OUTSIDER: 404, STAFF: 404}
ADMINS = MEMBERS | {"viewer": 403, "billing": 403, "developer": 403}
OWNERS = ADMINS | {"admin": 403}
BOOKKEEPERS = MEMBERS | {"viewer": 403, "developer": 403}
KEY_MAKERS = MEMBERS | {"viewer": 403, "billing": 403}
# A conversation is its author's alone: to other members there is none.
AUTHOR = KEY_MAKERS | {"admin": 404, "developer": 404}
OF_A_KEY = {"accounts:key-edit", "accounts:key-revoke", "accounts:key-rotate", "billing:key-budgets"}
CHAT = {"model": "gpt-fast", "role": "user", "text": "Hi"}

# A person who signs up has an organization of their own; those of the cast have none but the cast's.
REPORTERS = dict.fromkeys(PEOPLE, 403) | {ANONYMOUS: LOGIN, "admin": 200, "owner": 200, STAFF: 200}


def _made(expected: dict[str, int], status: int) -> dict[str, int]:
    """The same table where whoever may, gets `status` instead of 200."""
    return {who: status if code == 200 else code for who, code in expected.items()}


@dataclass(frozen=True)
class Row:
    name: str
    expected: dict[str, int]
    method: str = "get"
    data: dict[str, str] | None = None


TABLE = [
    Row("health", EVERYBODY),
    Row("ready", EVERYBODY),
    Row("metrics", EVERYBODY),
    Row("receipt-keys", EVERYBODY),
    Row("proxy:landing", EVERYBODY),
    Row("proxy:landing", dict.fromkeys(PEOPLE, 405), "post"),
    Row("proxy:catalogue", EVERYBODY),
    Row("proxy:compare", EVERYBODY),
    Row("proxy:model", EVERYBODY),
    Row("proxy:guides", EVERYBODY),
    Row("proxy:guide", EVERYBODY),
    Row("proxy:docs", EVERYBODY),
    Row("proxy:redoc", EVERYBODY),
    Row("proxy:changelog", EVERYBODY),
    Row("proxy:terms", EVERYBODY),
    Row("proxy:privacy", EVERYBODY),
    Row("proxy:imprint", EVERYBODY),
    Row("proxy:console", dict.fromkeys(PEOPLE, 302)),
    Row("proxy:overview", MEMBERS),
    Row("gallery:gallery", EVERYBODY),
    Row("gallery:detail", EVERYBODY),
    Row("gallery:report", EVERYBODY),
    Row("gallery:report", EVERYBODY, "post", {"reason": "bad"}),
    Row("gallery:report", dict.fromkeys(PEOPLE, 422), "post", {"reason": ""}),
    Row("gallery:file", EVERYBODY),
    Row("gallery:thumbnail", dict.fromkeys(PEOPLE, 404)),
    Row("gallery:own-images", MEMBERS),
    Row("gallery:own-images", _made(KEY_MAKERS, 302), "post", {"action": "public"}),
    Row("gallery:own-images", _made(ADMINS, 302), "post", {"action": "settings", "settings-visibility": "private"}),
    Row("proxy:models", MEMBERS),
    Row("proxy:models", _made(ADMINS, 302), "post", {"part": "fallback", "fallback-model": ""}),
    Row("proxy:models", _made(ADMINS, 422), "post", {"part": "alias", "name": "x y", "model": "none"}),
    Row("proxy:upstream-keys", dict.fromkeys(PEOPLE, 404) | {ANONYMOUS: LOGIN}),
    Row("proxy:upstream-key-remove", dict.fromkeys(PEOPLE, 404) | {ANONYMOUS: LOGIN}),
    Row("proxy:sessions", MEMBERS),
    Row("proxy:session-end", KEY_MAKERS),
    Row("proxy:session-end", _made(KEY_MAKERS, 302), "post"),
    Row("proxy:playground", KEY_MAKERS),
    Row("proxy:playground-pass", KEY_MAKERS, "post"),
    Row("proxy:playground-cost", KEY_MAKERS),
    Row("proxy:playground-mine", dict.fromkeys(PEOPLE, 302)),
    Row("proxy:playground-images", KEY_MAKERS),
    Row("proxy:playground-transcription", KEY_MAKERS),
    Row("proxy:playground-speech", KEY_MAKERS),
    Row("proxy:conversation-start", _made(KEY_MAKERS, 201), "post", CHAT),
    Row("proxy:conversation-start", _made(KEY_MAKERS, 422), "post", {"role": "user"}),
    Row("proxy:conversation", AUTHOR),
    Row("proxy:conversation-say", _made(AUTHOR, 201), "post", CHAT),
    Row("proxy:conversation-say", _made(AUTHOR, 422), "post", {"role": "system", "text": "Hi"}),
    Row("proxy:conversation-rename", AUTHOR),
    Row("proxy:conversation-rename", _made(AUTHOR, 302), "post", {"title": "New"}),
    Row("proxy:conversation-rename", _made(AUTHOR, 422), "post", {"title": ""}),
    Row("proxy:conversation-fork", _made(AUTHOR, 302), "post", {"message": "none"}),
    Row("proxy:conversation-delete", AUTHOR),
    Row("proxy:conversation-delete", _made(AUTHOR, 302), "post"),
    Row("proxy:conversation-json", AUTHOR),
    Row("proxy:conversation-markdown", AUTHOR),
    Row("proxy:realtime-playground", KEY_MAKERS),
    Row("proxy:realtime-secret", KEY_MAKERS, "post", {"model": "spoken"}),
    Row("status:page", EVERYBODY),
    Row("status:json", EVERYBODY),
    Row("status:rss", EVERYBODY),
    Row("status:history", EVERYBODY),
    Row("status:events", EVERYBODY),
    Row("status:subscribe", EVERYBODY),
    Row("status:subscribe", dict.fromkeys(PEOPLE, 422), "post", {"email": "nobody"}),
    Row("status:badge", EVERYBODY),
    Row("status:incident", EVERYBODY),
    Row("status:confirm", EVERYBODY),
    Row("status:confirm", dict.fromkeys(PEOPLE, 410), "post"),
    Row("status:unsubscribe", EVERYBODY),
    Row("accounts:settings", SIGNED_IN),
    Row("accounts:settings", _made(SIGNED_IN, 302), "post", {"name": "Ada"}),
    Row("accounts:settings", _made(SIGNED_IN, 422), "post", {"name": "x" * 121}),
    Row("accounts:session-end", dict.fromkeys(PEOPLE, 404) | {ANONYMOUS: LOGIN, "owner": 200}),
    Row("accounts:session-end", dict.fromkeys(PEOPLE, 404) | {ANONYMOUS: LOGIN, "owner": 302}, "post"),
    Row("accounts:device", SIGNED_IN),
    Row("accounts:device", _made(SIGNED_IN, 422), "post", {"user_code": "BCDF-GHJK", "action": "approve"}),
    Row("accounts:request-key", dict.fromkeys(PEOPLE, 404)),
    Row("accounts:impersonation-end", dict.fromkeys(PEOPLE, 405)),
    Row("accounts:impersonation-end", dict.fromkeys(PEOPLE, 404), "post"),
    Row("accounts:key-list", MEMBERS),
    Row("accounts:key-create", KEY_MAKERS),
    Row("accounts:key-create", _made(KEY_MAKERS, 201), "post", {"name": "new"}),
    Row("accounts:key-create", _made(KEY_MAKERS, 422), "post", {"name": ""}),
    Row("accounts:key-edit", ADMINS),
    Row("accounts:key-edit", _made(ADMINS, 302), "post", {"name": "other", "lifetime": "keep"}),
    Row("accounts:key-revoke", KEY_MAKERS),
    Row("accounts:key-revoke", _made(KEY_MAKERS, 302), "post"),
    Row("accounts:key-rotate", KEY_MAKERS),
    Row("accounts:key-rotate", _made(KEY_MAKERS, 201), "post", {"grace": "24"}),
    Row("accounts:organization-create", dict.fromkeys(PEOPLE, 200) | {ANONYMOUS: LOGIN}),
    Row("accounts:organization-create", dict.fromkeys(PEOPLE, 302), "post", {"name": "New", "timezone": "UTC"}),
    Row("accounts:organization-settings", MEMBERS),
    Row("accounts:organization-settings", _made(ADMINS, 302), "post", {"name": "Ada", "timezone": "Europe/Berlin"}),
    Row("accounts:organization-settings", _made(ADMINS, 422), "post", {"name": "", "timezone": "Mars"}),
    Row("accounts:organization-delete", OWNERS),
    Row("accounts:organization-delete", _made(OWNERS, 422), "post", {"typed": "something else"}),
    Row("accounts:organization-restore", _made(OWNERS, 302), "post"),
    Row("accounts:export-list", ADMINS),
    Row("accounts:export-list", _made(ADMINS, 302), "post"),
    Row("accounts:export-download", _made(ADMINS, 404)),
    Row("accounts:team", MEMBERS),
    Row("accounts:team", _made(ADMINS, 422), "post", {"email": "nobody", "role": "viewer"}),
    Row("accounts:leave", MEMBERS),
    Row("accounts:leave", _made(MEMBERS, 302), "post"),
    Row("accounts:member-role", _made(ADMINS, 302), "post", {"role": "viewer"}),
    Row("accounts:member-remove", ADMINS),
    Row("accounts:ownership", OWNERS),
    Row("accounts:ownership", _made(OWNERS, 422), "post", {"typed": "something else"}),
    Row("accounts:invitation-resend", _made(ADMINS, 302), "post"),
    Row("accounts:invitation-revoke", ADMINS),
    Row("accounts:invitation-revoke", _made(ADMINS, 302), "post"),
    Row("accounts:invitation", dict.fromkeys(PEOPLE, 410)),
    Row("accounts:audit", ADMINS),
    Row("accounts:audit-csv", ADMINS),
    Row("accounts:webhook-list", KEY_MAKERS),
    Row("accounts:webhook-create", KEY_MAKERS),
    Row("accounts:webhook-create", _made(KEY_MAKERS, 201), "post", {"url": "https://example.com/"}),
    Row("accounts:webhook-create", _made(KEY_MAKERS, 422), "post", {"url": "http://example.com/"}),
    Row("accounts:webhook", KEY_MAKERS),
    Row("accounts:webhook", _made(KEY_MAKERS, 302), "post", {"url": "https://example.com/", "is_enabled": "on"}),
    Row("accounts:webhook-rotate", KEY_MAKERS),
    Row("accounts:webhook-rotate", _made(KEY_MAKERS, 201), "post", {"overlap": "24"}),
    Row("accounts:webhook-remove", KEY_MAKERS),
    Row("accounts:webhook-remove", _made(KEY_MAKERS, 302), "post"),
    Row("accounts:webhook-test", _made(KEY_MAKERS, 302), "post"),
    Row("accounts:webhook-replay", _made(KEY_MAKERS, 302), "post"),
    Row("accounts:delivery", KEY_MAKERS),
    Row("accounts:delivery", _made(KEY_MAKERS, 302), "post"),
    Row("billing:reports", REPORTERS),
    Row("billing:report-data", REPORTERS),
    Row("billing:pricing", EVERYBODY),
    Row("billing:stripe-webhook", dict.fromkeys(PEOPLE, 405)),
    Row("billing:stripe-webhook", dict.fromkeys(PEOPLE, 404), "post", {"type": "unsigned"}),
    Row("billing:billing", BOOKKEEPERS),
    Row("billing:billing", _made(BOOKKEEPERS, 302), "post", {"part": "alert", "alert-credits": "5"}),
    Row("billing:billing", _made(BOOKKEEPERS, 422), "post", {"part": "redeem", "redeem-code": "none"}),
    Row("billing:buy", _made(BOOKKEEPERS, 302), "post", {"pack": "popular"}),
    Row("billing:portal", _made(BOOKKEEPERS, 302), "post"),
    Row("billing:checkout-done", BOOKKEEPERS),
    Row("billing:plan", BOOKKEEPERS),
    Row("billing:subscribe", _made(BOOKKEEPERS, 302), "post", {"plan": "team"}),
    Row("billing:subscribed", _made(BOOKKEEPERS, 302)),
    Row("billing:plan-cancel", BOOKKEEPERS),
    Row("billing:plan-cancel", _made(BOOKKEEPERS, 302), "post"),
    Row("billing:plan-resume", _made(BOOKKEEPERS, 302), "post"),
    Row("billing:top-up", BOOKKEEPERS),
    Row("billing:top-up", _made(BOOKKEEPERS, 422), "post", {"pack": "none"}),
    Row("billing:resale", BOOKKEEPERS),
    Row("billing:resale", _made(BOOKKEEPERS, 302), "post", {"part": "markup", "markup-percent": "5"}),
    Row("billing:resale", _made(BOOKKEEPERS, 422), "post", {"part": "child", "child-name": ""}),
    Row("billing:resale-customer", BOOKKEEPERS),
    Row("billing:resale-customer", _made(BOOKKEEPERS, 422), "post", {"credits": "-1"}),
    Row("billing:statement", BOOKKEEPERS),
    Row("billing:statement-file", BOOKKEEPERS),
    Row("billing:transfers", BOOKKEEPERS),
    Row("billing:usage", MEMBERS),
    Row("billing:usage-end-users", MEMBERS),
    Row("billing:usage-file", MEMBERS),
    Row("billing:member-budgets", ADMINS),
    Row("billing:member-budgets", _made(ADMINS, 302), "post", {"cost_month": "100"}),
    Row("billing:member-budgets", _made(ADMINS, 422), "post", {"cost_month": "x"}),
    Row("billing:key-budgets", MEMBERS),
    Row("billing:key-budgets", _made(ADMINS, 302), "post", {"tokens_day": "1000"}),
    Row("billing:limits", MEMBERS),
    Row("billing:limits", _made(ADMINS, 302), "post", {"part": "rates", "rates-rpm": "100"}),
    Row("billing:limits", _made(ADMINS, 302), "post", {"part": "organization", "organization-cost_day": "10"}),
    Row("billing:limits", ADMINS, "post", {"part": "end_user", "end_user-cost_day": "10", "preview": "1"}),
    Row("billing:limits", _made(ADMINS, 422), "post", {"part": "nothing"}),
    Row("billing:end-user-list", MEMBERS),
    Row("billing:end-user-budgets", MEMBERS),
    Row("billing:end-user-budgets", _made(ADMINS, 302), "post", {"tokens_month": "5"}),
    Row("billing:end-user-block", ADMINS),
    Row("billing:end-user-block", _made(ADMINS, 302), "post", {"end_user": "bob", "reason": "spam"}),
    Row("billing:end-user-block", _made(ADMINS, 422), "post", {"end_user": "", "reason": ""}),
    Row("billing:end-user-unblock", ADMINS),
    Row("billing:end-user-unblock", _made(ADMINS, 302), "post"),
    Row("billing:request-list", MEMBERS),
    Row("billing:request-file", MEMBERS),
    Row("billing:view-create", MEMBERS),
    Row("billing:view-create", _made(MEMBERS, 302), "post", {"name": "mine"}),
    Row("billing:view-create", _made(MEMBERS, 422), "post", {"name": ""}),
    # Everybody but the owner, whose view it is, gets to see nothing of it.
    Row("billing:view-delete", _made(MEMBERS, 404) | {"owner": 200}),
    Row("billing:view-delete", _made(MEMBERS, 404) | {"owner": 302}, "post"),
    Row("billing:request-detail", MEMBERS),
    Row("billing:transcript", KEY_MAKERS),
    Row("billing:transcript-settings", KEY_MAKERS),
    Row("billing:transcript-settings", _made(ADMINS, 302), "post", {"is_on": "on", "retention_days": "7"}),
    Row("billing:transcript-settings", _made(ADMINS, 422), "post", {"retention_days": "0"}),
    Row("billing:transcripts-delete", ADMINS),
    Row("billing:transcripts-delete", _made(ADMINS, 302), "post"),
]


def _patterns(resolver: URLResolver, prefix: str = "", namespace: str = "") -> Iterator[str]:
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if route.startswith(FOREIGN):
            continue
        if isinstance(pattern, URLResolver):
            yield from _patterns(pattern, route, f"{pattern.namespace}:" if pattern.namespace else namespace)
        elif isinstance(pattern, URLPattern):
            yield f"{namespace}{pattern.name}" if pattern.name else route


def _address(name: str, cast: Cast) -> str:
    slug = cast.organization.slug
    if name in OF_A_KEY:
        return reverse(name, args=[slug, pages_kit.key_of(cast.organization).public_id])
    if name in {"accounts:organization-create", "billing:reports", "billing:report-data"}:
        return reverse(name)
    if name == "accounts:invitation":
        return reverse(name, args=["a-token-that-nobody-has"])
    if name == "accounts:export-download":
        return reverse(name, args=[slug, uuid4()])
    if name in {"accounts:member-role", "accounts:member-remove", "accounts:ownership", "billing:member-budgets"}:
        return reverse(name, args=[slug, pages_kit.member(cast.organization).public_id])
    if name in {"accounts:invitation-resend", "accounts:invitation-revoke"}:
        return reverse(name, args=[slug, pages_kit.invitation(cast.organization).public_id])
    if name.startswith("accounts:webhook-") and name not in {"accounts:webhook-list", "accounts:webhook-create"}:
        return reverse(name, args=[slug, pages_kit.webhook(cast.organization).public_id])
    if name == "accounts:webhook":
        return reverse(name, args=[slug, pages_kit.webhook(cast.organization).public_id])
    if name == "accounts:delivery":
        sent = pages_kit.delivery(cast.organization)
        return reverse(name, args=[slug, sent.webhook.public_id, sent.public_id])
    if name == "accounts:session-end":
        return reverse(name, args=[pages_kit.api_session(cast.users["owner"], cast.organization).public_id])
    if name in {"billing:pricing", "billing:stripe-webhook"} | ACCOUNT_PAGES:
        return reverse(name)
    if name.startswith("billing:resale"):
        resale = pages_kit.resale(cast.organization)
        return reverse(name, args=[slug] if name == "billing:resale" else [slug, resale.child.slug])
    if name in {"billing:subscribed", "billing:plan-cancel", "billing:plan-resume"}:
        subscription = pages_kit.subscription(cast.organization)
        asked = f"?session_id={subscription.checkout_session_id}" if name == "billing:subscribed" else ""
        return reverse(name, args=[slug]) + asked
    if name == "billing:checkout-done":
        order = pages_kit.order(cast.organization)
        return reverse(name, args=[slug]) + f"?session_id={order.checkout_session_id}"
    if name in {"billing:statement", "billing:statement-file"}:
        month = f"{timezone.now():%Y-%m}"
        return reverse(name, args=[slug, month, *(["csv"] if name.endswith("file") else [])])
    if name == "proxy:playground-mine":
        return reverse(name)
    if name == "proxy:playground-cost":
        return reverse(name, args=[slug, uuid4().hex])
    if name.startswith("proxy:conversation") and name != "proxy:conversation-start":
        return reverse(name, args=[slug, pages_kit.conversation(cast.organization, cast.users["owner"]).public_id])
    if name == "proxy:session-end":
        return reverse(name, args=[slug, pages_kit.session(cast.organization).public_id])
    if name == "proxy:realtime-secret":
        pages_kit.speaking_model("spoken")
    if name == "proxy:upstream-key-remove":
        return reverse(name, args=[slug, "openai"])
    if name in {"billing:end-user-budgets", "billing:end-user-unblock"}:
        return reverse(name, args=[slug]) + "?who=bob"
    if name == "billing:view-delete":
        return reverse(name, args=[slug, pages_kit.view_of(cast.users["owner"], cast.organization).public_id])
    if name == "billing:transcript":
        record = pages_kit.request_of(pages_kit.key_of(cast.organization))
        pages_kit.words_of(record)
        return reverse(name, args=[slug, record.request_id])
    if name == "billing:request-detail":
        return reverse(name, args=[slug, pages_kit.request_of(pages_kit.key_of(cast.organization)).request_id])
    if name in {"status:confirm", "status:unsubscribe"}:
        return reverse(name, args=["a-token-that-nobody-has"])
    if name.startswith("gallery:") and name != "gallery:own-images":
        if name == "gallery:gallery":
            return reverse(name)
        image = pages_kit.image(cast.organization, visibility="public")
        return reverse(name, args=[image.public_id, *(["png"] if name == "gallery:file" else [])])
    if name in PUBLIC_PAGES or name == "accounts:impersonation-end":
        return reverse(name)
    if name == "proxy:guide":
        return reverse(name, args=["errors"])
    if name == "proxy:model":
        pages_kit.speaking_model("@voices/spoken")
        rates.set_price(model="@voices/spoken", input=1_000_000)
        return reverse(name, args=["@voices/spoken"])
    if name == "status:badge":
        return reverse(name, args=["api"])
    if name == "status:incident":
        return reverse(name, args=[pages_kit.incident().public_id])
    if name.startswith("status:"):
        return reverse(name)
    if ":" not in name or name in {"proxy:landing", "proxy:console"}:
        return reverse(name)
    return reverse(name, args=[slug])


def test_every_address_is_in_the_table() -> None:
    missing = set(_patterns(get_resolver())) - {row.name for row in TABLE}
    assert not missing, f"add these to TABLE: {sorted(missing)}"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method}-{row.name}")
def test_who_may_see_what(row: Row) -> None:
    cast = pages_kit.cast()
    got = {}
    for who in PEOPLE:
        data = None if row.data is None else {**row.data, "token": str(uuid4())}
        response = getattr(cast.client(who), row.method)(_address(row.name, cast), data)
        got[who] = response.status_code
        if who == ANONYMOUS and response.status_code == LOGIN:
            assert response["location"].startswith("/accounts/login/")
    assert got == row.expected


@pytest.mark.parametrize(
    "name", ["accounts:key-edit", "accounts:key-revoke", "accounts:key-rotate", "billing:key-budgets"]
)
def test_a_key_of_another_organization_is_not_found(name: str) -> None:
    cast, other = pages_kit.cast(), pages_kit.cast()
    address = reverse(name, args=[cast.organization.slug, pages_kit.key_of(other.organization).public_id])
    assert cast.client("owner").get(address).status_code == 404
    assert cast.client("owner").post(address).status_code == 404


def test_a_request_of_another_organization_is_not_found() -> None:
    cast, other = pages_kit.cast(), pages_kit.cast()
    record = pages_kit.request_of(pages_kit.key_of(other.organization))
    address = reverse("billing:request-detail", args=[cast.organization.slug, record.request_id])
    assert cast.client("owner").get(address).status_code == 404
