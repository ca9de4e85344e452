"""The pages against other sites: framing, forged forms, hosts, redirects, cookies, caches; CORS; `/v1` without HTML."""

import time
from typing import Any
from urllib.parse import unquote, urljoin
from uuid import uuid4

import pytest
from django.contrib.auth.hashers import make_password
from django.core import mail
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts import api_sessions, keys, organizations
from accounts.models import ApiSession, Membership, Organization, Role, User
from accounts.spreadsheets import plain
from accounts.subjects import one_line
from billing import budget_warnings, letters
from billing.models import Budget
from config import asgi, cors
from config.tests import pages_kit, test_urls
from config.tests.test_settings import start
from proxy import client_secrets, playground, realtime_sessions
from proxy.consumers import LiveConsumer
from proxy.gateway.realtime.secrets import Wanted
from proxy.models import RealtimeSession
from proxy.tests.api_kit import assert_error, customer

pytestmark = pytest.mark.django_db

PASSWORD = "copper-pine-42"
EVIL = "https://evil.example"
HTTPS = {"SITE_URL": "https://api.example.com", "REDIS_URL": ""}


# ---------------------------------------------------------------- Headers of every page


@pytest.mark.parametrize("address", ["/", "/accounts/login/", "/status", "/gallery/", "/nothing-here", "/health"])
def test_no_page_can_be_framed_or_sniffed(address: str) -> None:
    answer = Client().get(address)
    assert answer["x-frame-options"] == "DENY"
    assert answer["x-content-type-options"] == "nosniff"
    assert answer["cross-origin-opener-policy"] == "same-origin"
    assert answer["referrer-policy"] == "strict-origin-when-cross-origin"
    assert "camera=()" in answer["permissions-policy"]
    policy = answer["content-security-policy"]
    for directive in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert directive in policy
    assert "unsafe" not in policy


def test_over_https_cookies_are_bound_to_this_host() -> None:
    """The prefix `__Host-` (ASVS 3.3.1, 3.3.3): no subdomain, and no page without TLS, can plant one."""
    wanted = {
        "SESSION_COOKIE_NAME": "__Host-session", "CSRF_COOKIE_NAME": "__Host-csrf", "SESSION_COOKIE_SECURE": "True",
        "CSRF_COOKIE_SECURE": "True", "SESSION_COOKIE_HTTPONLY": "True", "CSRF_COOKIE_HTTPONLY": "True",
        "SECURE_SSL_REDIRECT": "True", "SECURE_HSTS_SECONDS": "63072000",
    }  # fmt: skip
    shown = f"{{name: str(getattr(config.settings, name)) for name in {list(wanted)!r}}}"
    told = start(f"__name__ and {shown}", **HTTPS)
    assert eval(told.stdout) == wanted, told.stderr


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites() -> None:
    cast = pages_kit.cast()
    client = Client()
    cast.users["owner"].set_password(PASSWORD)
    cast.users["owner"].save()
    client.post("/accounts/login/", {"login": cast.users["owner"].email, "password": PASSWORD})
    cookie = client.cookies["sessionid"]
    assert (cookie["httponly"], cookie["samesite"], cookie["domain"], cookie["path"]) == (True, "Lax", "", "/")


def test_what_was_made_for_one_person_is_kept_by_no_cache() -> None:
    """Django CVE-2026-35192, -6907, -48587: two people behind one cache never see each other's page."""
    cast = pages_kit.cast()
    address = reverse("proxy:overview", args=[cast.organization.slug])
    answer = cast.client("owner").get(address)
    assert answer["cache-control"] == "private, no-store"
    assert "Cookie" in answer["vary"]
    assert cast.client("outsider").get(address).status_code == 404
    assert "no-store" not in Client().get("/").get("cache-control", "")
    api = customer().get("/v1/credits/balance")
    assert api["cache-control"] == "no-store"


def test_headers_that_caches_do_not_key_on_change_no_page() -> None:
    """Cache poisoning: what a proxy forwards but does not key on is not reflected."""
    poison = {
        "x-forwarded-host": "evil.example", "x-original-url": "/evil", "x-rewrite-url": "/evil",
        "x-host": "evil.example",
        "x-forwarded-scheme": "evil", "x-forwarded-prefix": "/evil", "forwarded": "host=evil.example",
    }  # fmt: skip
    for address in ("/", "/accounts/login/", "/v1/openapi.json", "/status.json"):
        answer = Client().get(address, headers=poison)
        assert answer.status_code == 200
        assert b"evil" not in answer.content
        assert "evil" not in str(answer.headers)


# ---------------------------------------------------------------- Forged requests


CSRF_FREE = {
    "billing:stripe-webhook": "signed by Stripe",
    "status:unsubscribe": "one click of a mail program (RFC 8058): the token is the proof",
}


def test_every_form_needs_its_token() -> None:
    cast = pages_kit.cast()
    for row in test_urls.TABLE:
        if row.method == "get" or row.name in CSRF_FREE:
            continue
        client = Client(enforce_csrf_checks=True)
        client.force_login(cast.users["owner"], backend="django.contrib.auth.backends.ModelBackend")
        answer = client.post(test_urls._address(row.name, cast), row.data or {})
        assert answer.status_code in {403, 405}, (row.name, answer.status_code)
    assert Organization.objects.filter(pk=cast.organization.pk, status="active").exists()


def test_a_token_from_another_origin_does_not_count() -> None:
    cast = pages_kit.cast()
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.users["owner"], backend="django.contrib.auth.backends.ModelBackend")
    address = reverse("accounts:organization-create")
    token = client.get(address).context["csrf_token"]
    form = {"name": "Mine", "timezone": "UTC", "csrfmiddlewaretoken": str(token)}
    assert client.post(address, form, headers={"origin": EVIL}).status_code == 403
    assert client.post(address, form, headers={"origin": "null"}).status_code == 403
    assert client.post(address, form, headers={"origin": "http://testserver"}).status_code == 302


def test_the_cookie_of_a_session_opens_nothing_under_v1() -> None:
    cast = pages_kit.cast()
    for path in ("/v1/credits/balance", "/v1/auth/me", "/v1/auth/api-keys", "/v1/usage/stats", "/v1/admin/blocked"):
        assert_error(cast.client("owner").get(path), 401, "invalid_api_key")
        assert_error(cast.client("staff").get(path), 401, "invalid_api_key")


# ---------------------------------------------------------------- Hosts and redirects


HOSTS = ["evil.example", "testserver@evil.example", "evil.example#testserver", "testserver/x/..", "testserver?x", "a b"]


@pytest.mark.parametrize("host", HOSTS)
def test_other_host_names_are_refused(host: str) -> None:
    """Starlette CVE-2026-48710 "BadHost": no path, address or mail is made of what the client calls us."""
    assert Client(raise_request_exception=False).get("/", headers={"host": host}).status_code == 400
    answer = Client().get("/v1/openapi.json", headers={"host": host})
    assert_error(answer, 400, "unknown_host")
    assert b"evil" not in answer.content


def test_a_letter_names_our_own_host(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    cache.clear()
    user = pages_kit.person("ada")
    poisoned = {"host": "evil.example", "x-forwarded-host": "evil.example"}
    assert Client().post("/accounts/password/reset/", {"email": user.email}, headers=poisoned).status_code == 400
    Client().post("/accounts/password/reset/", {"email": user.email}, headers={"x-forwarded-host": "evil.example"})
    assert [("evil" in letter.body) for letter in mail.outbox] == [False]


NEXTS = [
    "https://evil.example/", "//evil.example/", "/\\evil.example", "///evil.example", "javascript:alert(1)",
    "https:evil.example", "http://testserver@evil.example", "\thttps://evil.example", "/\t/evil.example",
    "data:text/html,x",
    "https://testserver.evil.example/", "https:///evil.example", "%2F%2Fevil.example",
]  # fmt: skip


@pytest.mark.parametrize("target", NEXTS)
def test_signing_in_and_out_leads_to_no_other_site(target: str) -> None:
    cache.clear()
    user = User.objects.create_user(f"{abs(hash(target))}@example.com", password=PASSWORD)
    organizations.personal_of(user)
    client = Client()
    form = {"login": user.email, "password": PASSWORD, "next": target}
    for answer in (
        client.post("/accounts/login/", form),
        client.post("/accounts/login/", form, query_params={"next": target}),
        client.get("/accounts/login/", query_params={"next": target}),
        client.post("/accounts/logout/", {"next": target}),
        client.get("/accounts/signup/", query_params={"next": target}),
    ):
        place = urljoin("http://testserver/accounts/login/", answer.get("location", "/").replace("\\", "/"))
        assert place.startswith("http://testserver/"), place


@pytest.mark.parametrize(
    "path",
    ["//evil.example/x", "/%2F%2Fevil.example", "/\\evil.example/%2e%2e", "//evil.example/o", "//evil.example/v1/"],
)
def test_no_address_is_redirected_to_another_host(path: str) -> None:
    # Also as a server hands it over: the client takes for a host what stands behind two slashes.
    for answer in (Client().get("/", PATH_INFO=unquote(path)), Client().get(path)):
        assert not answer.get("location", "/").startswith(("//", "http", "/\\"))


def test_a_path_with_a_doubled_slash_under_v1_is_no_page() -> None:
    """Where no gateway runs, Django answers it; a base URL with a slash too many gives it."""
    for path in ("//v1/key", "///v1//key", "//v1"):
        assert_error(Client().get("/", PATH_INFO=path), 404, "unknown_url")


def test_a_sign_in_over_the_api_with_the_stored_hash_fails() -> None:
    """LiteLLM GHSA-69x8-hrgq-fjj8: a hash is no password."""
    cache.clear()
    user = User.objects.create_user("hash@example.com", password=PASSWORD)
    body = {"email": user.email, "password": user.password}
    answer = Client().post("/v1/auth/login", body, content_type="application/json")
    assert_error(answer, 401, "invalid_credentials")
    assert make_password(PASSWORD).startswith("argon2")


def test_a_forged_address_does_not_escape_the_rate_limit() -> None:
    """allauth 65.14.2: X-Forwarded-For counts only as far as the operator's own proxies wrote it."""
    cache.clear()
    user = User.objects.create_user("limited@example.com", password=PASSWORD)
    codes = []
    for number in range(30):
        headers = {"x-forwarded-for": f"203.0.113.{number}", "x-real-ip": f"203.0.113.{number}"}
        body = {"email": user.email, "password": "wrong-password"}
        answer = Client().post("/v1/auth/login", body, content_type="application/json", headers=headers)
        codes.append(answer.status_code)
    assert codes[-1] == 429


# ---------------------------------------------------------------- Never HTML under /v1


@pytest.mark.parametrize(
    "path",
    [
        "/v1", "/v1/", "/v1/nothing", "/v1/auth", "/v1/auth/", "/v1/auth/login/", "/v1/credits/balance/", "/v1/usage",
        "/v1/images/not-a-uuid", "/v1/auth/api-keys/x", "/v1/receipts/", "/v1/admin/users/%00/usage", "/v1/%ff",
        "/v1/public/keys/%00", "/v1/auth/device/%00/status", "/v1/images?q=%00", "/v1/receipts/%00",
    ],
)  # fmt: skip
def test_nothing_under_v1_is_a_page(path: str, settings: Any) -> None:
    settings.ADMIN_TOKEN = "the-operators-token-of-32-letters"
    settings.SELF_SERVICE_KEYS = True
    client = customer()
    for method in ("get", "post", "put", "patch", "delete", "options"):
        headers = {"authorization": f"Bearer {client.secret}", "accept": "text/html"}
        if "admin" in path:
            headers["x-admin-token"] = settings.ADMIN_TOKEN
        answer = getattr(Client(), method)(path, headers=headers)
        assert answer.status_code < 500, (method, answer.content)
        assert answer["content-type"].startswith("application/json"), (method, answer.status_code, answer.content[:80])


def test_a_nul_in_an_address_breaks_no_page() -> None:
    cast = pages_kit.cast()
    client = cast.client("owner")
    slug = cast.organization.slug
    for address in (
        f"/o/{slug}/playground/?q=%00", f"/o/{slug}/requests/?model=%00", f"/o/{slug}/plan/done/?session_id=%00",
        "/gallery/?q=%00", "/models/?q=%00", "/reports?organization=%00", f"/o/{slug}%00/", f"/o/{slug}/usage/?key=%00",
        f"/o/{slug}/audit/?actor=%00", f"/o/{slug}/billing/done/?session_id=%00", "/accounts/login/?next=%00",
    ):  # fmt: skip
        assert client.get(address).status_code < 500, address
    for address in (f"/o/{slug}/plan/subscribe/", f"/o/{slug}/models/", f"/o/{slug}/team/"):
        assert client.post(address, {"plan": "\0", "part": "remove", "name": "\0"}).status_code < 500, address


# ---------------------------------------------------------------- Other sites' pages


async def _asked(
    origin: str, origins: frozenset[str], method: str = "GET", **headers: str
) -> tuple[int, dict[str, str]]:
    told: dict[str, Any] = {}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"vary", b"Accept")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            told.update(message)

    sent = {"origin": origin, **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http", "method": method, "path": "/v1/models",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items() if value],
    }  # fmt: skip
    await cors.serve(application, scope, _none, send, origins=origins)
    found: dict[str, str] = {}
    for name, value in told["headers"]:
        found[name.decode()] = ", ".join(filter(None, (found.get(name.decode(), ""), value.decode())))
    return told["status"], found


async def _none() -> Any:
    return {"type": "http.disconnect"}


APP = "https://app.example.com"


@pytest.mark.parametrize("origin", ["", "null", EVIL, f"{APP}.evil.example", f"{APP}:444", "http://app.example.com"])
async def test_an_origin_that_is_not_named_may_read_nothing(origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        _, headers = await _asked(origin, frozenset({APP}), method, access_control_request_method="POST")
        assert "access-control-allow-origin" not in headers
        assert "access-control-allow-headers" not in headers
        assert "Origin" in headers["vary"]


async def test_a_named_origin_may_and_never_with_cookies() -> None:
    status, headers = await _asked(APP, frozenset({APP}))
    assert (status, headers["access-control-allow-origin"], headers["vary"]) == (200, APP, "Accept, Origin")
    assert "x-cost-credits" in headers["access-control-expose-headers"]
    wanted = {"access_control_request_method": "POST", "access_control_request_headers": "authorization,x-stainless-os"}
    status, headers = await _asked(APP, frozenset({APP}), "OPTIONS", **wanted)
    assert (status, headers["access-control-allow-headers"]) == (204, "authorization,x-stainless-os")
    assert "POST" in headers["access-control-allow-methods"]
    _, everybody = await _asked(EVIL, frozenset({"*"}))
    assert everybody["access-control-allow-origin"] == "*"
    for found in (headers, everybody):
        assert "access-control-allow-credentials" not in found


@pytest.mark.parametrize("value", ["app.example.com", "https://", "https://a.example/path", "https://a b", "null"])
def test_an_origin_that_cannot_be_one_stops_the_start(value: str) -> None:
    told = start(CORS_ORIGINS=value)
    assert told.returncode != 0
    assert "CORS_ORIGINS" in told.stderr


async def test_without_the_setting_no_header_is_added(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    served = []

    async def route(scope: Any, receive: Any, send: Any) -> None:
        served.append(send)

    monkeypatch.setattr(asgi, "_route", route)
    scope = {"type": "http", "method": "GET", "path": "/v1/models", "headers": [(b"origin", APP.encode())]}
    for origins, path in ((frozenset(), "/v1/models"), (frozenset({APP}), "/console/")):
        settings.CORS_ORIGINS = origins
        await asgi.application(scope | {"path": path}, _none, _none)  # type: ignore[arg-type]
    assert served == [_none, _none]


# ---------------------------------------------------------------- What the review found


def test_staff_without_a_second_factor_are_none_over_the_api_either(settings: Any) -> None:
    """A password alone opens neither the administration's pages, nor `/v1/admin`, nor everybody's reports."""
    settings.STAFF_NEEDS_MFA = True
    cast = pages_kit.cast()
    staff = cast.users["staff"]
    organization = organizations.personal_of(staff)
    access = api_sessions.begin(user=staff, organization=organization, way=ApiSession.Way.PASSWORD).access
    issued = keys.issue(organization=organization, name="admin", by=staff, scopes=["admin"])
    for secret in (access, issued.secret):
        answer = Client().get("/v1/admin/blocked", headers={"authorization": f"Bearer {secret}"})
        assert_error(answer, 403, "second_factor_needed")
    told = cast.client("staff").get(reverse("billing:report-data")).json()
    assert told["organization"] is None
    assert (
        cast.client("staff").get(reverse("billing:reports"), {"organization": cast.organization.slug}).status_code
        == 404
    )


def test_a_page_of_the_log_is_never_longer_than_it_may_be() -> None:
    """Zeros before a number hid it from the check of its first digits."""
    client = customer()
    for limit in ("0000000019999999", "000000001" + "9" * 5_000, "1001", "0", "-1", "１", "1e3"):
        assert_error(client.get(f"/v1/usage/logs?limit={limit}"), 400, "invalid_value")
    assert client.get("/v1/usage/logs?limit=000000010").status_code == 200


def test_a_name_with_a_line_break_stops_no_letter() -> None:
    """One tenant's name in a subject must not end the task that writes to all."""
    cast = pages_kit.cast()
    Organization.objects.filter(pk=cast.organization.pk).update(name="Ada\r\nBcc: eve@example.com")
    cast.organization.refresh_from_db()
    assert letters.send(cast.organization, f"{cast.organization.name}: low", "text")
    key = pages_kit.key_of(cast.organization, name="a\nb")
    budget = Budget(organization=cast.organization, key=key, period="day", scope="key", cost_cap_nanos=1)
    budget_warnings._mail(budget, 80)
    assert len(mail.outbox) == 2
    for letter in mail.outbox:
        assert letter.subject == one_line(letter.subject)
        letter.message()


def test_subjects_are_one_line() -> None:
    assert one_line("a\r\nb\tc\0d\u2028e") == "a b c d e"
    assert len(one_line("x" * 900)) == 200


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠x"])
def test_no_text_begins_a_formula(text: str) -> None:
    assert plain(text) == f"'{text}"
    assert plain(plain(text)) == plain(text)


def gone(how: str, member: Membership, client: Client) -> None:
    match how:
        case "switched off":
            User.objects.filter(pk=member.user_id).update(is_active=False)
        case "removed":
            organizations.remove_member(membership=member, by=None)
        case "signed out":
            client.logout()
        case _:
            member.user.set_password(PASSWORD)
            member.user.save()


@pytest.mark.parametrize("how", ["switched off", "removed", "signed out", "new password"])
def test_a_page_that_is_open_hears_no_more_once_its_reader_is_out(how: str) -> None:
    """The socket of a page is let in once and stays for hours: it is asked for again before everything it is told."""
    cast = pages_kit.cast()
    member = Membership.objects.get(organization=cast.organization, user=cast.users["viewer"])
    client = cast.client("viewer")
    consumer = LiveConsumer()
    consumer.scope = {"session": client.session, "url_route": {"kwargs": {"slug": cast.organization.slug}}}
    ask = vars(LiveConsumer)["_organization"].func
    assert ask(consumer) == cast.organization.pk
    gone(how, member, client)
    assert ask(consumer) is None


@pytest.mark.parametrize("how", ["switched off", "removed", "viewer now"])
def test_an_ephemeral_key_of_the_console_ends_with_its_members_role(how: str) -> None:
    """Else somebody who was let go could talk at the organization's cost for the minutes that it is good for."""
    cast = pages_kit.cast()
    member = Membership.objects.get(organization=cast.organization, user=cast.users["developer"])
    key = playground.key_of(cast.organization, by=member.user)
    wanted = Wanted("gpt-realtime", {}, int(time.time()) + 60)
    secret = client_secrets.mint(key.pk, wanted, end_user=member.user.email, member=member.user)
    servers = client_secrets.mint(key.pk, wanted, end_user=member.user.email)
    assert client_secrets.find(secret) == client_secrets.find(servers) is not None
    if how == "viewer now":
        organizations.change_role(membership=member, role=Role.VIEWER, by=None)
    else:
        gone(how, member, Client())
    assert client_secrets.find(secret) is None
    assert client_secrets.find(servers) is not None


@pytest.mark.parametrize("how", ["switched off", "removed", "viewer now"])
def test_a_realtime_session_of_the_console_ends_with_its_members_role(
    how: str, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    cast = pages_kit.cast()
    member = Membership.objects.get(organization=cast.organization, user=cast.users["developer"])
    key = playground.key_of(cast.organization, by=member.user)
    now = timezone.now()
    mine, colleagues = (
        RealtimeSession.objects.create(
            public_id=uuid4(), organization=cast.organization, key=key, end_user=email, model="m", started_at=now,
            seen_at=now,
        )
        for email in (member.user.email, cast.users["owner"].email)
    )  # fmt: skip
    told: list[RealtimeSession] = []
    monkeypatch.setattr(realtime_sessions, "end", lambda session, **_: told.append(session))
    with django_capture_on_commit_callbacks(execute=True), CaptureQueriesContext(connection) as asked:
        if how == "viewer now":
            organizations.change_role(membership=member, role=Role.VIEWER, by=None)
        elif how == "removed":
            organizations.remove_member(membership=member, by=None)
        else:
            member.user.is_active = False
            member.user.save()
    assert told == [mine]
    assert colleagues not in told
    (notice,) = [query["sql"] for query in asked if "tuppence_members" in query["sql"]]
    assert ("NULL" in notice) == (how == "switched off")


def test_a_short_operators_token_stops_the_start() -> None:
    told = start(ADMIN_TOKEN="short")
    assert told.returncode != 0
    assert "ADMIN_TOKEN" in told.stderr
