"""The management API: who may call it, and that whatever fails, fails in OpenAI's shape."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts import keys, organizations
from accounts.models import ApiKey, Organization
from billing import budgets
from proxy.tests.api_kit import assert_error, customer

pytestmark = pytest.mark.django_db

PATHS = ["/v1/key", "/v1/nothing", "/v1/"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Basic abc"},
        {"authorization": "Bearer sk-tup-wrong"},
        {"authorization": "Bearer " + "x" * 5000},
        {"x-api-key": "' OR 1=1 --"},
        {"authorization": "Bearer schlüssel"},
    ],
)
def test_without_a_live_key_everything_is_401(path, headers):
    response = Client().get(path, headers=headers)
    assert_error(response, 401, "invalid_api_key")
    assert response["www-authenticate"] == "Bearer"


def test_a_key_is_read_from_three_headers():
    caller = customer()
    for header in (
        {"authorization": f"Bearer {caller.secret}"},
        {"api-key": caller.secret},
        {"x-api-key": caller.secret},
    ):
        assert Client().get("/v1/key", headers=header).status_code == 200


def test_a_revoked_or_expired_key_opens_nothing():
    revoked, expired = customer(), customer()
    keys.revoke(key=revoked.key, by=None)
    ApiKey.objects.filter(pk=expired.key.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    for caller in (revoked, expired):
        assert_error(caller.get("/v1/key"), 401, "invalid_api_key")


def test_a_frozen_organization_is_refused():
    caller = customer()
    Organization.objects.filter(pk=caller.organization.pk).update(status="frozen")
    assert_error(caller.get("/v1/key"), 403, "organization_inactive")


def test_a_key_from_a_foreign_address_is_refused():
    assert_error(customer(allowed_ips=["203.0.113.0/24"]).get("/v1/key"), 403, "ip_not_allowed")
    assert customer(allowed_ips=["127.0.0.0/8"]).get("/v1/key").status_code == 200


def test_a_key_tells_its_own_limits_and_what_is_left():
    caller = customer(credit=123_456_000, scopes=["chat"], allowed_models=["m"], tpm=1000)
    budgets.set_for_key(key=caller.key, period="day", cost_cap_nanos=50_000_000, token_cap=700)
    told = caller.get("/v1/key").json()
    assert told["organization"] == caller.organization.slug
    assert (told["scopes"], told["allowed_models"]) == (["chat"], ["m"])
    none = {"requests_per_minute": None, "tokens_per_minute": None, "concurrent_requests": None}
    assert told["rate_limits"] == none | {"tokens_per_minute": 1000, "organization": none}
    assert told["credits"] == {"available": "12.3456", "held": "0.0000"}
    cost, tokens = told["budgets"]
    assert (cost["unit"], cost["cap"], cost["left"], cost["cap_usd"]) == ("credits", "5.0000", "5.0000", "0.0500")
    assert (tokens["unit"], tokens["cap"], tokens["left"]) == ("tokens", 700, 700)
    assert cost["scope"] == "key"
    assert cost["resets_at"].endswith("T00:00:00Z")
    assert caller.secret not in str(told)


def test_without_credits_for_sale_none_are_told(settings):
    settings.IS_SELF_HOSTED = True
    assert customer().get("/v1/key").json()["credits"] is None


def test_a_key_is_limited_to_its_requests_per_minute():
    caller = customer(rpm=3)
    answers = [caller.get("/v1/key") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0]["x-ratelimit-limit-requests"] == "3"
    assert [answer["x-ratelimit-remaining-requests"] for answer in answers[:3]] == ["2", "1", "0"]
    error = assert_error(answers[3], 429, "rate_limit_exceeded")
    assert error["type"] == "requests"
    assert 1 <= int(answers[3]["retry-after"]) <= 20


def test_the_limit_holds_in_this_process_while_redis_is_away(settings):
    caller = customer(rpm=2)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert [caller.get("/v1/key").status_code for _ in range(3)] == [200, 200, 429]


def test_unknown_paths_and_methods_are_told_in_the_shape():
    caller = customer()
    assert_error(caller.get("/v1/nothing"), 404, "unknown_url")
    assert_error(caller.post("/v1/files", {}), 404, "unknown_url")
    response = caller.post("/v1/key", {})
    assert_error(response, 405, "method_not_supported")
    assert "GET" in response["allow"]


def test_a_page_of_djangos_own_never_leaves_under_v1():
    assert_error(Client(headers={"host": "evil.example"}).get("/v1/key"), 400, "unknown_host")


def test_a_key_without_a_rate_of_its_own_has_its_organizations():
    caller = customer()
    organizations.set_rates(organization=caller.organization, rpm=2, tpm=900, by=None)
    told = caller.get("/v1/key").json()["rate_limits"]
    assert (told["requests_per_minute"], told["tokens_per_minute"]) == (2, 900)
    own = customer(rpm=5)
    organizations.set_rates(organization=own.organization, rpm=2, tpm=None, max_rpm=7, by=None)
    told = own.get("/v1/key").json()["rate_limits"]
    assert (told["requests_per_minute"], told["organization"]["requests_per_minute"]) == (5, 7)
