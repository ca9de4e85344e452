"""What the console's pages say and do."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from uuid import UUID, uuid4

import pytest
from django.contrib.sessions.models import Session
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import key_format, keys
from accounts.models import ApiKey
from billing import ledger, usage
from billing.models import Budget
from config.tests import pages_kit
from config.tests.pages_kit import STAFF, Cast

pytestmark = pytest.mark.django_db

SECRET = re.compile(r"sk-tup-[0-9A-Za-z]{50}")


@pytest.fixture
def cast() -> Cast:
    return pages_kit.cast()


@pytest.fixture
def client(cast: Cast) -> Client:
    return cast.client("developer")


def _address(name: str, cast: Cast, *rest: object) -> str:
    return reverse(name, args=[cast.organization.slug, *rest])


def _text(response: HttpResponse) -> str:
    return unescape(response.content.decode())


# ---------------------------------------------------------------- The policy


@pytest.mark.parametrize(
    "path",
    [
        "/", "/accounts/login/", "/accounts/signup/", "/no-such-page/", "/models", "/models/compare", "/guides/",
        "/guides/python", "/guides/errors", "/docs", "/changelog", "/terms", "/pricing",
    ],
)  # fmt: skip
def test_public_pages_have_a_strict_policy_and_nothing_inline(path: str) -> None:
    _assert_nothing_inline(Client().get(path))


@pytest.mark.parametrize(
    "name",
    [
        "proxy:overview",
        "accounts:key-list",
        "accounts:key-create",
        "billing:request-list",
        "billing:usage",
        "billing:limits",
        "billing:end-user-list",
        "billing:end-user-block",
    ],
)
def test_console_pages_have_a_strict_policy_and_nothing_inline(name: str, cast: Cast, client: Client) -> None:
    pages_kit.many_requests(pages_kit.key_of(cast.organization), 3)
    _assert_nothing_inline(client.get(_address(name, cast)))


def _assert_nothing_inline(response: HttpResponse) -> None:
    policy = response["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    page = response.content.decode()
    assert " style=" not in page
    assert "<style" not in page
    assert "hx-on" not in page
    assert "js:" not in page
    assert not re.search(r"\son[a-z]+=", page)
    for attributes in re.findall(r"<script([^>]*)>", page):
        assert "src=" in attributes or 'type="application/json"' in attributes


# ---------------------------------------------------------------- Keys


def test_a_new_key_is_shown_once_and_kept_nowhere_in_clear(cast: Cast, client: Client) -> None:
    response = client.post(_address("accounts:key-create", cast), {"name": "laptop", "token": uuid4()})
    found = set(SECRET.findall(_text(response)))
    assert len(found) == 1
    secret = found.pop()
    assert key_format.is_well_formed(secret)
    assert "no-store" in response["cache-control"]
    assert "You will not see it again" in _text(response)
    assert f'api_key="{secret}"' in re.sub(r"<[^>]+>", "", _text(response))
    for session in Session.objects.all():
        assert secret not in str(session.get_decoded())
    assert not SECRET.search(_text(client.get(_address("accounts:key-list", cast))))


def test_the_same_form_sent_twice_makes_one_key_and_says_so(cast: Cast, client: Client) -> None:
    form = {"name": "laptop", "token": uuid4()}
    first = client.post(_address("accounts:key-create", cast), form)
    second = client.post(_address("accounts:key-create", cast), form)
    assert (first.status_code, second.status_code) == (201, 409)
    assert cast.organization.keys.count() == 1
    assert not SECRET.search(_text(second))
    assert "already sent" in _text(second)


def test_the_token_of_another_organizations_key_tells_nothing_of_it(cast: Cast) -> None:
    other = pages_kit.cast()
    key = pages_kit.key_of(other.organization, "their secret project")
    response = cast.client("owner").post(
        _address("accounts:key-create", cast), {"name": "mine", "token": key.public_id}
    )
    assert "their secret project" not in _text(response)
    assert cast.organization.keys.count() == 0


def test_a_keys_name_and_limits_are_edited_and_its_scopes_are_not(cast: Cast, client: Client) -> None:
    ends = timezone.now() + timedelta(days=3)
    limits = {"scopes": ["chat"], "rpm": 60, "expires_at": ends}
    key = keys.issue(organization=cast.organization, name="ci", by=cast.users["developer"], **limits).key
    address = reverse("accounts:key-edit", args=[cast.organization.slug, key.public_id])
    assert 'value="60"' in _text(client.get(address))
    form = {"name": " cd ", "lifetime": "keep", "scopes": ["images"], "allowed_models": "gpt-fast", "tpm": "100"}
    assert client.post(address, form).status_code == 302
    key.refresh_from_db()
    assert (key.name, key.rpm, key.tpm, key.allowed_models) == ("cd", None, 100, ["gpt-fast"])
    assert (key.scopes, key.expires_at) == (["chat"], ends)
    assert client.post(address, form | {"rpm": "0"}).status_code == 422
    keys.revoke(key=key, by=None)
    assert "This key has ended" in _text(client.post(address, form))


def test_developers_edit_their_own_keys_and_admins_all(cast: Cast) -> None:
    developer, admin = cast.users["developer"], cast.users["admin"]
    own, made_by_admin = (pages_kit.key_of(cast.organization, by=by, allowed_ips=["::1"]) for by in (developer, admin))
    form = {"name": "open", "lifetime": "keep", "allowed_ips": ""}
    edit = {key: _address("accounts:key-edit", cast, key.public_id) for key in (own, made_by_admin)}
    client = cast.client("developer")
    listed = _text(client.get(_address("accounts:key-list", cast)))
    assert edit[own] in listed
    assert edit[made_by_admin] not in listed
    refused = client.post(edit[made_by_admin], form)
    assert refused.status_code == 403
    assert "Developers edit the keys that they made" in _text(refused)
    assert client.post(edit[own], form).status_code == 302
    made_by_admin.refresh_from_db()
    own.refresh_from_db()
    assert (own.allowed_ips, made_by_admin.allowed_ips) == ([], ["::1/128"])
    assert cast.client("admin").post(edit[made_by_admin], form).status_code == 302


def test_a_key_with_the_scope_of_staff_is_changed_and_rotated_by_staff_alone(cast: Cast) -> None:
    key = pages_kit.key_of(cast.organization, by=cast.users[STAFF], scopes=["admin"])
    form = {"name": "open", "lifetime": "keep", "token": uuid4(), "grace": "0"}
    owner = cast.client("owner")
    assert owner.post(_address("accounts:key-edit", cast, key.public_id), form).status_code == 403
    refused = owner.post(_address("accounts:key-rotate", cast, key.public_id), form)
    assert refused.status_code == 422
    assert "Only staff" in _text(refused)
    cast.users["owner"].is_staff = True
    cast.users["owner"].save()
    assert owner.post(_address("accounts:key-edit", cast, key.public_id), form).status_code == 302
    assert owner.post(_address("accounts:key-rotate", cast, key.public_id), form).status_code == 201


def test_limits_of_the_form_arrive_on_the_key(cast: Cast, client: Client) -> None:
    form = {
        "name": "  ci   runner ",
        "token": uuid4(),
        "lifetime": "30",
        "scopes": ["chat"],
        "allowed_models": "gpt-fast, embed\ngpt-fast",
        "allowed_endpoints": ["/v1/chat/completions"],
        "allowed_ips": "203.0.113.7\n2001:db8::/32",
        "rpm": "60",
        "tpm": "100000",
    }
    assert client.post(_address("accounts:key-create", cast), form).status_code == 201
    key = cast.organization.keys.get()
    assert key.name == "ci runner"
    assert key.scopes == ["chat"]
    assert key.allowed_models == ["gpt-fast", "embed"]
    assert key.allowed_endpoints == ["/v1/chat/completions"]
    assert key.allowed_ips == ["203.0.113.7/32", "2001:db8::/32"]
    assert (key.rpm, key.tpm) == (60, 100_000)
    assert timedelta(days=29) < key.expires_at - timezone.now() < timedelta(days=31)


@pytest.mark.parametrize(
    ("field", "value"),
    [("allowed_ips", "not-an-address"), ("rpm", "0"), ("scopes", "everything-and-more"), ("lifetime", "-1")],
)
def test_a_wrong_limit_is_said_and_no_key_is_made(field: str, value: str, cast: Cast, client: Client) -> None:
    response = client.post(_address("accounts:key-create", cast), {"name": "x", "token": uuid4(), field: value})
    assert response.status_code == 422
    assert field in response.context["form"].errors
    assert not cast.organization.keys.exists()


def test_revoking_asks_first_and_then_revokes(cast: Cast, client: Client) -> None:
    key = pages_kit.key_of(cast.organization)
    address = _address("accounts:key-revoke", cast, key.public_id)
    assert "cannot be undone" in _text(client.get(address))
    partial = client.get(address, headers={"HX-Request": "true"})
    assert "cannot be undone" in _text(partial)
    assert "<html" not in _text(partial)
    assert ApiKey.objects.get(pk=key.pk).is_live
    response = client.post(address, follow=True)
    assert "Revoked" in _text(response)
    assert not ApiKey.objects.get(pk=key.pk).is_live


def test_rotating_shows_the_successor_and_keeps_the_old_key_for_the_grace(cast: Cast, client: Client) -> None:
    key = pages_kit.key_of(cast.organization)
    response = client.post(_address("accounts:key-rotate", cast, key.public_id), {"grace": "24", "token": uuid4()})
    assert SECRET.search(_text(response))
    old = ApiKey.objects.get(pk=key.pk)
    assert old.is_live
    assert timedelta(hours=23) < old.revoked_at - timezone.now() <= timedelta(hours=24)
    assert cast.organization.keys.count() == 2


def test_rotating_twice_by_the_same_form_makes_one_successor(cast: Cast, client: Client) -> None:
    key = pages_kit.key_of(cast.organization)
    form = {"grace": "24", "token": uuid4()}
    address = _address("accounts:key-rotate", cast, key.public_id)
    assert client.post(address, form).status_code == 201
    assert client.post(address, form).status_code == 409
    assert cast.organization.keys.count() == 2


def test_the_key_list_is_paged_in_a_fixed_number_of_queries(
    cast: Cast, client: Client, django_assert_max_num_queries
) -> None:
    address = _address("accounts:key-list", cast)
    assert "No keys yet" in _text(client.get(address))
    for number in range(60):
        pages_kit.key_of(cast.organization, f"key {number:02d}")
    with django_assert_max_num_queries(8):
        page = _text(client.get(address))
    assert "key 59" in page
    assert "key 09" not in page
    assert "key 09" in _text(client.get(address, {"page": 2}))


# ---------------------------------------------------------------- Budgets


def test_budgets_are_set_changed_and_removed(cast: Cast) -> None:
    client = cast.client("admin")
    key = pages_kit.key_of(cast.organization)
    address = _address("billing:key-budgets", cast, key.public_id)
    client.post(address, {"cost_day": "12.5", "tokens_month": "1000000"})
    found = {budget.period: budget for budget in Budget.objects.filter(key=key)}
    assert found["day"].cost_cap_nanos == 125_000_000  # 12.5 credits of 10,000,000 n$
    assert found["day"].token_cap is None
    assert found["month"].token_cap == 1_000_000
    client.post(address, {"cost_day": "20"})
    assert [(b.period, b.cost_cap_nanos) for b in Budget.objects.filter(key=key)] == [("day", 200_000_000)]
    client.post(address, {})
    assert not Budget.objects.filter(key=key).exists()


def test_key_member_and_end_user_have_one_form_of_budgets(cast: Cast) -> None:
    key = pages_kit.key_of(cast.organization)
    member = cast.organization.memberships.get(user=cast.users["developer"])
    addresses = [
        _address("billing:key-budgets", cast, key.public_id),
        _address("billing:member-budgets", cast, member.public_id),
        _address("billing:end-user-budgets", cast) + "?who=a%2Fb+c",
    ]
    client = cast.client("admin")
    for address in addresses:
        saved = client.post(address, {"cost_day": "12.5", "tokens_month": "700"})
        assert (saved.status_code, saved["location"]) == (302, address)
        page = _text(client.get(address))
        assert "Saved the budgets of" in page
        assert "0 of 12.5" in page
        assert 'value="700"' in page
    assert set(Budget.objects.values_list("scope", "period")) == {
        (scope, period) for scope in ("key", "member", "end_user") for period in ("day", "month")
    }


@pytest.mark.parametrize("amount", ["0", "-1", "1e3x", "0.00000001", "999999999999999999999"])
def test_a_wrong_budget_is_said(amount: str, cast: Cast) -> None:
    client = cast.client("admin")
    key = pages_kit.key_of(cast.organization)
    response = client.post(_address("billing:key-budgets", cast, key.public_id), {"cost_day": amount})
    assert response.status_code == 422
    assert not Budget.objects.filter(key=key).exists()


# ---------------------------------------------------------------- The request log


def test_the_log_pages_back_and_forth_without_gap_or_repeat(cast: Cast, client: Client) -> None:
    made = [record.request_id for record in pages_kit.many_requests(pages_kit.key_of(cast.organization), 120)]
    address = _address("billing:request-list", cast)
    pages, query = [], {}
    while True:
        page = client.get(address, query).context["page"]
        pages.append([record.request_id for record in page.records])
        if page.older is None:
            break
        query = {"before": page.older}
    assert [number for page in pages for number in page] == made
    assert [len(page) for page in pages] == [50, 50, 20]
    newer = client.get(address, {"after": pages[2][0]}).context["page"]
    assert [record.request_id for record in newer.records] == pages[1]
    newest = client.get(address, {"after": newer.newer}).context["page"]
    assert [record.request_id for record in newest.records] == pages[0]
    assert newest.newer is None


def test_the_log_renders_in_a_fixed_number_of_queries(
    cast: Cast, client: Client, django_assert_max_num_queries
) -> None:
    address = _address("billing:request-list", cast)
    assert "No requests yet" in _text(client.get(address))
    for name in ("a", "b", "c"):
        pages_kit.many_requests(pages_kit.key_of(cast.organization, name), 20)
    with django_assert_max_num_queries(8):
        client.get(address)
    with django_assert_max_num_queries(7):
        partial = _text(client.get(address, headers={"HX-Request": "true"}))
    assert "<html" not in partial
    assert partial.count("<tr>") == 51  # the head and fifty requests


def test_filters_narrow_the_log(cast: Cast, client: Client) -> None:
    server, laptop = pages_kit.key_of(cast.organization, "server"), pages_kit.key_of(cast.organization, "laptop")
    now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    first = pages_kit.request_of(server, now, model="embed", end_user="u-1")
    second = pages_kit.request_of(laptop, now - timedelta(days=2), outcome="timeout")
    address = _address("billing:request-list", cast)

    def found(**query: object) -> list[UUID]:
        return [record.request_id for record in client.get(address, query).context["page"].records]

    assert found() == [first.request_id, second.request_id]
    assert found(model="embed") == [first.request_id]
    assert found(key=laptop.public_id) == [second.request_id]
    assert found(outcome="failed") == [second.request_id]
    assert found(end_user="u-1") == [first.request_id]
    assert found(first_day="2026-11-19") == [first.request_id]
    assert found(last_day="2026-11-18") == [second.request_id]
    assert found(first_day="2026-11-21") == []
    assert "No request matches" in _text(client.get(address, {"model": "none-such"}))


def test_a_day_of_the_filter_is_a_day_of_the_organization(cast: Cast, client: Client) -> None:
    cast.organization.timezone = "Asia/Tokyo"
    cast.organization.save(update_fields=["timezone"])
    key = pages_kit.key_of(cast.organization)
    # Midnight of the 20th in Tokyo is 15:00 of the 19th in UTC.
    pages_kit.request_of(key, datetime(2026, 11, 19, 14, 59, 59, tzinfo=UTC))
    inside = pages_kit.request_of(key, datetime(2026, 11, 19, 15, 0, 0, tzinfo=UTC))
    query = {"first_day": "2026-11-20", "last_day": "2026-11-20"}
    page = client.get(_address("billing:request-list", cast), query).context["page"]
    assert [record.request_id for record in page.records] == [inside.request_id]


@pytest.mark.parametrize(
    "query",
    [
        {"before": "x"}, {"after": "-"}, {"first_day": "never"}, {"last_day": "9999-12-31"}, {"key": "x"},
        {"outcome": "x"}, {"model": "\x00"}, {"key": "00000000-0000-0000-0000-000000000000"}, {"end_user": "x" * 999},
    ],
)  # fmt: skip
def test_nonsense_in_the_address_does_not_break_the_log(query: dict[str, str], cast: Cast, client: Client) -> None:
    pages_kit.many_requests(pages_kit.key_of(cast.organization), 2)
    assert client.get(_address("billing:request-list", cast), query).status_code == 200


def test_the_detail_shows_upstream_cost_to_staff_alone(cast: Cast) -> None:
    record = pages_kit.request_of(pages_kit.key_of(cast.organization), upstream_cost_nanos=777_777)
    address = _address("billing:request-detail", cast, record.request_id)
    page = _text(cast.client("owner").get(address))
    assert "0.123457 " not in page
    assert "0.1234567" in page  # 1,234,567 n$ are 0.1234567 credits
    assert "$0.000777777" not in page
    owner = cast.users["owner"]
    owner.is_staff = True
    owner.save(update_fields=["is_staff"])
    assert "$0.000777777" in _text(cast.client("owner").get(address))


def test_a_request_and_that_of_its_images_lead_to_each_other(cast: Cast) -> None:
    key = pages_kit.key_of(cast.organization)
    attempt = {"deployment": "up/painter", "status": 200, "error": "", "ms": 5}
    text = pages_kit.request_of(key)
    images = pages_kit.request_of(key, attempts=[attempt | {"of": str(text.request_id)}])
    there = _address("billing:request-detail", cast, text.request_id)
    page = _text(cast.client("viewer").get(_address("billing:request-detail", cast, images.request_id)))
    assert f'href="{there}"' in page
    back = pages_kit.request_of(key, attempts=[attempt | {"images": str(images.request_id)}])
    page = _text(cast.client("viewer").get(_address("billing:request-detail", cast, back.request_id)))
    assert f'href="{_address("billing:request-detail", cast, images.request_id)}"' in page


# ---------------------------------------------------------------- The overview


def test_first_steps_tick_by_themselves(cast: Cast, client: Client) -> None:
    address = _address("proxy:overview", cast)

    def done() -> int:
        return _text(client.get(address, headers={"HX-Request": "true"})).count("data-done")

    assert done() == 0
    ledger.grant(organization=cast.organization, amount=10**10, reason="test", idempotency_key=uuid4().hex)
    assert done() == 1
    key = pages_kit.key_of(cast.organization)
    assert done() == 2
    pages_kit.request_of(
        key, timezone.now() - timedelta(seconds=2), outcome="upstream_error", error_code="upstream_error"
    )
    page = _text(client.get(address))
    assert page.count("data-done") == 2
    assert "/guides/errors#upstream_error" in page
    record = pages_kit.request_of(key)
    assert done() == 3
    client.get(_address("billing:request-detail", cast, record.request_id))
    assert "First steps" not in _text(client.get(address))


def test_the_overview_sums_today_of_the_organization_alone(cast: Cast) -> None:
    key, other = pages_kit.key_of(cast.organization), pages_kit.key_of(pages_kit.cast().organization)
    now = timezone.now()
    pages_kit.request_of(key, now, input_tokens=100, output_tokens=20, cost_nanos=30)
    pages_kit.request_of(key, now, input_tokens=1, output_tokens=2, cost_nanos=3, outcome="timeout")
    pages_kit.request_of(key, now - timedelta(days=1))
    pages_kit.request_of(other, now)
    figures = usage.today(cast.organization)
    assert (figures.requests, figures.failed, figures.tokens, figures.cost_nanos) == (2, 1, 123, 33)


def test_the_overview_needs_few_queries(cast: Cast, client: Client, django_assert_max_num_queries) -> None:
    pages_kit.many_requests(pages_kit.key_of(cast.organization), 30)
    client.get(_address("proxy:overview", cast))
    with django_assert_max_num_queries(11):
        client.get(_address("proxy:overview", cast))


def test_the_console_opens_the_organization_seen_last(cast: Cast) -> None:
    owner = cast.client("owner")
    owner.get(_address("proxy:overview", cast))
    assert owner.get("/console/")["location"] == _address("proxy:overview", cast)


# ---------------------------------------------------------------- Errors


def test_an_unknown_page_is_in_the_design() -> None:
    response = Client().get("/no-such-page/")
    assert response.status_code == 404
    assert "Page not found" in _text(response)
    assert "app.css" in _text(response)


def test_a_member_without_the_role_is_told_so(cast: Cast) -> None:
    response = cast.client("viewer").get(_address("accounts:key-create", cast))
    assert response.status_code == 403
    assert "Not allowed" in _text(response)
