"""`/v1/admin`: keys, usage and end users of every organization, for operators and for nobody else."""

from datetime import timedelta
from typing import Any

import pytest
import redis
from django.test import Client
from django.utils import timezone

from accounts import api_sessions, keys, organizations
from accounts.models import ApiKey, AuditEntry, Membership, Organization, User
from billing import ledger, settlement
from billing.models import Account
from billing.money import NANOS_PER_CREDIT
from config.tests import pages_kit
from proxy.tests.api_kit import ApiClient, assert_error, customer

pytestmark = pytest.mark.django_db

TOKEN = "an-operator-token"
USERS = [
    ("get", "users"),
    ("get", "users/bob/usage"),
    ("post", "users/bob/block"),
    ("post", "users/bob/unblock"),
    ("post", "users/bob/threshold"),
    ("get", "blocked"),
    ("post", "keys"),
    ("post", "keys/00000000-0000-0000-0000-000000000000/revoke"),
    ("get", "usage/00000000-0000-0000-0000-000000000000"),
    ("get", "credits/stats"),
]


@pytest.fixture(autouse=True)
def _token(settings: Any) -> None:
    settings.ADMIN_TOKEN = TOKEN
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.delete(*(f"rl:{{admin{address}}}:m" for address in ("127.0.0.1", "2001:db8::/64")))
    client.close()


def call(path: str, body: Any = None, **headers: str) -> Any:
    """By the operator's token, unless other headers are given."""
    given = headers or {"x-admin-token": TOKEN}
    if body is None:
        return Client().get(f"/v1/admin/{path}", headers=given)
    return Client().post(f"/v1/admin/{path}", body, content_type="application/json", headers=given)


def staff_key(**fields: Any) -> ApiClient:
    made = customer()
    staff = pages_kit.person("staff", is_staff=True)
    issued = keys.issue(organization=made.organization, name="admin", by=staff, **{"scopes": ["admin"]} | fields)
    return ApiClient(made.organization, issued.key, issued.secret)


def test_guessing_the_operators_token_is_stopped_for_its_address() -> None:
    for number in range(10):
        assert call("blocked").status_code != 429
        assert_error(call("blocked", **{"x-admin-token": f"guess {number}"}), 401, "invalid_api_key")
    for token in ("guess", TOKEN):
        answer = call("blocked", **{"x-admin-token": token})
        assert_error(answer, 429, "too_many_attempts")
        assert answer["retry-after"] == "60"
    assert call("blocked", authorization=f"Bearer {staff_key().secret}").status_code == 200
    elsewhere = Client(REMOTE_ADDR="2001:db8::7")
    for _ in range(11):
        answer = Client(REMOTE_ADDR="2001:db8::8").get("/v1/admin/blocked", headers={"x-admin-token": "guess"})
    assert_error(answer, 429, "too_many_attempts")
    assert elsewhere.get("/v1/admin/blocked", headers={"x-admin-token": TOKEN}).status_code == 429
    elsewhere = Client(REMOTE_ADDR="198.51.100.7")
    assert elsewhere.get("/v1/admin/blocked", headers={"x-admin-token": TOKEN}).status_code != 429


@pytest.mark.parametrize(("method", "path"), USERS)
def test_nobody_but_operators(method: str, path: str) -> None:
    body = {} if method == "post" else None
    assert_error(call(path, body, accept="*/*"), 401, "invalid_api_key")
    assert_error(call(path, body, **{"x-admin-token": "x"}), 401, "invalid_api_key")
    for scopes, code in (([], "staff_only"), (["management"], "scope_missing")):
        secret = customer(scopes=scopes).secret
        assert_error(call(path, body, authorization=f"Bearer {secret}"), 403, code)
    secret = staff_key().secret
    assert call(path, body, authorization=f"Bearer {secret}").status_code in {200, 400, 404}


def test_a_key_is_an_operators_while_its_maker_is_staff() -> None:
    made = staff_key()
    header = {"authorization": f"Bearer {made.secret}"}
    assert call("users", **header).status_code == 200
    type(made.key.created_by).objects.filter(pk=made.key.created_by_id).update(is_staff=False)
    assert_error(call("users", **header), 403, "staff_only")
    ApiKey.objects.filter(pk=made.key.pk).update(created_by=None)
    assert_error(call("users", **header), 403, "staff_only")


def test_only_staff_makes_such_a_key() -> None:
    organization = organizations.create(name="o")
    for by in (None, pages_kit.person("ada")):
        with pytest.raises(keys.InvalidKey):
            keys.issue(organization=organization, name="k", by=by, scopes=["admin"])
    made = staff_key()
    with pytest.raises(keys.InvalidKey):
        keys.rotate(key=made.key, by=pages_kit.person("dev"), grace=timedelta(0))
    successor = keys.rotate(key=made.key, by=made.key.created_by, grace=timedelta(0))
    assert call("users", authorization=f"Bearer {successor.secret}").status_code == 200
    User.objects.filter(pk=made.key.created_by_id).update(is_staff=False)
    assert_error(call("users", authorization=f"Bearer {successor.secret}"), 403, "staff_only")


def test_a_key_is_made_with_its_organization_and_ended() -> None:
    body = {"organization": "night-shift", "label": "alice", "credits": "250", "rpm": 60, "scopes": ["chat"]}
    answer = call("keys", body)
    assert answer.status_code == 201
    told = answer.json()
    organization = Organization.objects.get(slug="night-shift")
    assert (told["name"], told["rpm"], told["scopes"], told["organization"]) == ("alice", 60, ["chat"], "night-shift")
    assert ledger.balance_of(organization).available == 250 * NANOS_PER_CREDIT
    key = ApiKey.objects.get(public_id=told["id"])
    assert told["key"].startswith(key.prefix)
    entry = AuditEntry.objects.get(action="key.issue", organization=organization)
    assert (entry.actor, entry.via) == (None, "X-Admin-Token")
    assert call("keys", {"organization": "night-shift", "name": "second"}).status_code == 201
    for which in (told["id"], key.prefix, told["key"]):
        ended = call(f"keys/{which}/revoke", {})
        assert (ended.status_code, ended.json()["is_live"]) == (200, False)
    assert "key" not in ended.json()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"organization": "a b", "name": "k"}, "organization"),
        ({"organization": "new", "name": "k"}, "organization"),
        ({"organization": "o"}, "name"),
        ({"organization": "o", "name": "k", "scopes": ["x"]}, "scopes"),
        ({"organization": "o", "name": "k", "scopes": ["admin"]}, "scopes"),
        ({"organization": "o", "name": "k", "credits": "x"}, "credits"),
        ({"organization": "o", "name": "k", "credits": "-1"}, "credits"),
        ({"organization": "o", "name": "k", "allowed_ips": ["x"]}, "allowed_ips"),
        ({"organization": "o", "name": "k", "rpm": 0}, "rpm"),
        ({"organization": "o", "name": "k", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    ],
)
def test_what_is_wrong_with_a_key_is_named_and_makes_nothing(body: dict[str, Any], param: str) -> None:
    answer = call("keys", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert not Organization.objects.exists()


def test_the_usage_of_a_key_settled_or_not() -> None:
    one = customer(100 * NANOS_PER_CREDIT)
    other = pages_kit.key_of(one.organization)
    for key, model, cost in ((one.key, "a", 1), (one.key, "b", 2), (other, "a", 4)):
        pages_kit.request_of(key, model=model, cost_nanos=cost * NANOS_PER_CREDIT)
    Account.objects.filter(pk=one.account.pk).update(unsettled=7 * NANOS_PER_CREDIT)
    before = call(f"usage/{one.key.public_id}").json()
    settlement.settle_all()
    told = call(f"usage/{one.key.public_id}").json()
    for each in (before, told):
        assert (each["requests"], each["errors"], each["total_tokens"], each["cost"]["credits"]) == (
            2, 0, 2 * 1_234, "3.0000",
        )  # fmt: skip
        assert [(row["model"], row["cost"]["credits"]) for row in each["models"]] == [("b", "2.0000"), ("a", "1.0000")]
    tomorrow = (timezone.now() + timedelta(days=1)).isoformat()
    assert call(f"usage/{one.key.public_id}?start={tomorrow.replace('+', '%2B')}").json()["requests"] == 0
    assert_error(call("usage/sk-tup-none"), 404, "not_found")
    assert_error(call(f"usage/{one.key.public_id}?start=x"), 400, "invalid_value")


def test_end_users_are_listed_blocked_and_capped() -> None:
    one = customer()
    for name, cost in (("bob", 3), ("a/b c", 1), ("bob", 2)):
        pages_kit.request_of(one.key, end_user=name, cost_nanos=cost * NANOS_PER_CREDIT)
    slug = one.organization.slug
    page = call(f"users?organization={slug}&limit=1").json()
    assert [(each["userId"], each["usage"]["costUsd"]) for each in page["data"]] == [("bob", "0.050000000")]
    page = call(f"users?organization={slug}&limit=1&after={page['next']}").json()
    assert (page["data"][0]["userId"], page["has_more"]) == ("a/b c", False)

    ends = (timezone.now() + timedelta(hours=1)).replace(microsecond=0)
    blocked = call(
        "users/bob/block", {"organization": slug, "reason": "Exceeded", "expiresAt": ends.isoformat()}
    ).json()
    assert blocked["blocked"]
    assert (blocked["blockEntry"]["reason"], blocked["blockEntry"]["userId"]) == ("Exceeded", "bob")
    assert [each["userId"] for each in call(f"blocked?organization={slug}").json()["data"]] == ["bob"]

    told = call("users/bob/threshold", {"organization": slug, "maxCostUsd": 25, "maxTotalTokens": 500_000}).json()
    assert told["threshold"] == {"maxCostUsd": "25.0000", "maxTotalTokens": 500_000}
    assert told["usage"]["totalTokens"] == 2 * 1_234
    told = call("users/bob/threshold", {"organization": slug}).json()
    assert told["threshold"] == {"maxCostUsd": "0.0000", "maxTotalTokens": 0}

    assert not call("users/bob/unblock", {"organization": slug}).json()["blocked"]
    assert_error(call("users/bob/unblock", {"organization": slug}), 404, "not_found")
    assert call(f"users/a%2Fb%20c/usage?organization={slug}").json()["userId"] == "a/b c"
    for body, param in (
        ({"maxCostUsd": "x"}, "maxCostUsd"),
        ({"maxCostUsd": "-1"}, "maxCostUsd"),
        ({"maxTotalTokens": -1}, "maxTotalTokens"),
    ):
        answer = call("users/bob/threshold", body | {"organization": slug})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_which_organization_is_said_unless_it_is_plain() -> None:
    one = customer()
    assert call("users").status_code == 200
    two = customer()
    assert_error(call("users"), 400, "invalid_value")
    assert_error(call("users?organization=none"), 404, "not_found")
    assert call(f"users?organization={one.organization.public_id}").status_code == 200
    made = staff_key()
    pages_kit.request_of(made.key, end_user="eve")
    found = call("users", authorization=f"Bearer {made.secret}").json()["data"]
    assert [each["organization"] for each in found] == [made.organization.slug]
    assert two.organization.slug not in str(found)


def test_staff_are_named_in_the_audit_log() -> None:
    made = staff_key()
    call("users/bob/block", {"reason": "spam"}, authorization=f"Bearer {made.secret}")
    entry = AuditEntry.objects.get(action="end_user.block")
    assert entry.actor == made.key.created_by
    assert entry.via == f"key {made.key.masked}"


def test_staff_come_in_with_an_access_token_and_a_second_factor(settings: Any) -> None:
    organization = organizations.create(name="o")
    staff, other = pages_kit.person("staff", is_staff=True), pages_kit.person("ada")
    for user in (staff, other):
        Membership.objects.create(organization=organization, user=user, role="admin")
    tokens = [
        api_sessions.begin(user=user, organization=organization, way="password").access for user in (staff, other)
    ]
    settings.STAFF_NEEDS_MFA = False
    assert call("users", authorization=f"Bearer {tokens[0]}").status_code == 200
    assert_error(call("users", authorization=f"Bearer {tokens[1]}"), 403, "staff_only")
    settings.STAFF_NEEDS_MFA = True
    assert_error(call("users", authorization=f"Bearer {tokens[0]}"), 403, "second_factor_needed")
