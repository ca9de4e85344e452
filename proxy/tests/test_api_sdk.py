"""`/v1/sdk/*`: usage of models called elsewhere, by the same rules, charged once."""

from datetime import timedelta
from uuid import uuid4

import pytest

from accounts import keys
from billing import blocks, budgets, end_users, reaper, reconciliation, settlement
from billing.models import Budget, Hold, UsageRecord
from proxy.tests.api_kit import assert_error, customer, model

pytestmark = pytest.mark.django_db(transaction=True)

# 500 x 1,000 + 1,200 x 2,000 = 2,900,000 nano-dollars: 0.29 credits.
USED = {"inputTokens": 500, "outputTokens": 1200, "latencyMs": 2300, "success": True}
RECORD = {"userId": "user-123", "model": "m", "requestType": "realtime"} | USED
CHECK = {"userId": "user-123", "model": "m", "requestType": "realtime"}
RESERVE = CHECK | {"inputTokens": 1000, "outputTokens": 2000}  # at most 1,000 x 1,000 + 2,000 x 2,000 = 5,000,000


@pytest.fixture
def caller():
    model()
    return customer(credit=10_000_000)


def figures(caller):
    account = caller.account
    return account.available, account.held, account.unsettled


# ---------------------------------------------------------------- Recording


def test_recorded_usage_is_priced_charged_and_counted(caller):
    end_users.set_default(organization=caller.organization, period="month", cost_cap_nanos=10_000_000, token_cap=None)
    told = caller.post("/v1/sdk/record", RECORD, **{"x-org-id": "team-7"}).json()
    assert told["cost"] == {"credits": "0.2900", "usd": "0.002900000"}
    assert told["totalTokens"] == 1700
    record = UsageRecord.objects.get(pk=told["requestId"])
    assert (record.cost_nanos, record.input_tokens, record.output_tokens) == (2_900_000, 500, 1200)
    assert (record.end_user, record.endpoint, record.provider) == ("user-123", "/v1/realtime", "elsewhere")
    assert (record.outcome, record.latency_ms, record.org_label) == ("completed", 2300, "team-7")
    assert figures(caller) == (7_100_000, 0, 2_900_000)
    assert Budget.objects.get(end_user="user-123").used_cost_nanos == 2_900_000
    assert settlement.settle_all() == 1
    assert reconciliation.check() == []


def test_openais_own_usage_object_is_priced_by_its_kinds(caller):
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    body = CHECK | {"usage": usage, "success": False}
    told = caller.post("/v1/sdk/record", body).json()
    assert told["cost"]["credits"] == "0.0020"  # 10 x 1,000 + 5 x 2,000 = 20,000
    record = UsageRecord.objects.get(pk=told["requestId"])
    assert (record.outcome, record.error_code, record.usage) == ("upstream_error", "reported_failure", usage)


def test_the_same_idempotency_key_records_once(caller):
    answers = [caller.post("/v1/sdk/record", RECORD, **{"idempotency-key": "k"}) for _ in range(3)]
    assert len({answer.content for answer in answers}) == 1
    assert answers[2]["idempotent-replayed"] == "true"
    assert figures(caller) == (7_100_000, 0, 2_900_000)
    other = caller.post("/v1/sdk/record", RECORD | {"inputTokens": 1}, **{"idempotency-key": "k"})
    assert_error(other, 409, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"userId": ""}, "userId"),
        ({"userId": "x" * 257}, "userId"),
        ({"userId": "a\0"}, "userId"),
        ({"model": None}, "model"),
        ({"inputTokens": -1}, "inputTokens"),
        ({"outputTokens": 10**13}, "outputTokens"),
        ({"inputTokens": "many"}, "inputTokens"),
        ({"success": "perhaps"}, "success"),
        ({"usage": {"input_tokens": -1, "output_tokens": 1}}, "usage.input_tokens"),
        ({"usage": {"nothing": 1}}, "usage"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_charged(change, param, caller):
    error = assert_error(caller.post("/v1/sdk/record", RECORD | change), 400, "invalid_value")
    assert error["param"] == param
    assert figures(caller) == (10_000_000, 0, 0)


def test_usage_must_be_said_and_the_model_have_a_price(caller):
    assert assert_error(caller.post("/v1/sdk/record", CHECK), 400, "invalid_value")["param"] == "inputTokens"
    assert_error(caller.post("/v1/sdk/record", RECORD | {"model": "none"}), 404, "model_not_found")
    limited = customer(allowed_models=["other"])
    assert_error(limited.post("/v1/sdk/record", RECORD), 403, "model_not_allowed")


# ---------------------------------------------------------------- Checking


def test_a_check_says_yes_with_usage_and_threshold(caller):
    end_users.set_default(
        organization=caller.organization, period="month", cost_cap_nanos=10_000_000_000, token_cap=100_000
    )
    first = caller.post("/v1/sdk/check", CHECK).json()
    assert (first["allowed"], first["reason"], first["usage"]["totalTokens"]) == (True, None, 0)
    assert first["threshold"] == {"maxCostUsd": "10.0000", "maxTotalTokens": 100_000}
    caller.post("/v1/sdk/record", RECORD)
    for _ in range(2):  # before and after it is settled
        told = caller.post("/v1/sdk/check", CHECK).json()
        assert told["usage"] | {"lastUpdated": ""} == {
            "inputTokens": 500,
            "outputTokens": 1200,
            "totalTokens": 1700,
            "costUsd": "0.002900000",
            "lastUpdated": "",
        }
        settlement.settle_all()
    assert figures(caller)[1] == 0


def test_a_check_says_no_and_why(caller):
    budgets.set_budget(
        organization=caller.organization,
        scope="end_user",
        end_user="user-123",
        period="day",
        cost_cap_nanos=2_900_000,
        token_cap=None,
    )
    caller.post("/v1/sdk/record", RECORD)
    told = caller.post("/v1/sdk/check", CHECK).json()
    assert (told["allowed"], told["code"], told["blocked"]) == (False, "budget_exceeded", False)
    assert "day budget of this end user" in told["reason"]
    blocks.block(organization=caller.organization, end_user="user-123", reason="Exceeded fair usage")
    told = caller.post("/v1/sdk/check", CHECK).json()
    assert (told["allowed"], told["code"], told["blocked"]) == (False, "user_blocked", True)
    assert "Exceeded fair usage" in told["reason"]
    assert caller.post("/v1/sdk/check", CHECK | {"userId": "other"}).json()["allowed"]
    poor = customer()
    assert poor.post("/v1/sdk/check", CHECK).json()["code"] == "insufficient_quota"


# ---------------------------------------------------------------- Reserving


def test_a_reservation_is_held_committed_once_and_the_rest_released(caller):
    answer = caller.post("/v1/sdk/reserve", RESERVE)
    reserved = answer.json()
    assert (answer.status_code, reserved["reserved"]["credits"], reserved["availableCredits"]) == (
        201,
        "0.5000",
        "0.5000",
    )
    assert figures(caller) == (5_000_000, 5_000_000, 0)
    body = {"reservationId": reserved["reservationId"]} | USED
    first = caller.post("/v1/sdk/commit", body)
    again = caller.post("/v1/sdk/commit", body | {"outputTokens": 1})
    assert first.json() == again.json()
    assert first.json()["cost"]["credits"] == "0.2900"
    assert first.json()["availableCredits"] == "0.7100"
    assert figures(caller) == (7_100_000, 0, 2_900_000)
    record = UsageRecord.objects.get()
    assert (record.hold_nanos, record.end_user, record.endpoint) == (5_000_000, "user-123", "/v1/realtime")
    assert_error(caller.post("/v1/sdk/cancel", body), 409, "reservation_committed")
    assert reconciliation.check() == []


def test_a_cancelled_reservation_costs_nothing(caller):
    reservation = {"reservationId": caller.post("/v1/sdk/reserve", RESERVE).json()["reservationId"]}
    for _ in range(2):
        assert caller.post("/v1/sdk/cancel", reservation).json()["status"] == "cancelled"
    assert figures(caller) == (10_000_000, 0, 0)
    assert_error(caller.post("/v1/sdk/commit", reservation | USED), 409, "reservation_cancelled")


def test_between_reserve_and_commit_there_is_no_room_for_a_race(caller):
    budgets.set_budget(
        organization=caller.organization,
        scope="end_user",
        end_user="user-123",
        period="day",
        cost_cap_nanos=7_000_000,
        token_cap=None,
    )
    assert caller.post("/v1/sdk/reserve", RESERVE).status_code == 201
    error = assert_error(caller.post("/v1/sdk/reserve", RESERVE), 429, "budget_exceeded")
    assert (error["rule"]["scope"], error["rule"]["cap"], error["rule"]["held"]) == ("end_user", "0.7000", "0.5000")
    assert f"/o/{caller.organization.slug}/end-users/" in error["message"]


def test_refusals_are_the_gateways(caller):
    blocks.block(organization=caller.organization, end_user="bad", reason="spam")
    response = caller.post("/v1/sdk/reserve", RESERVE | {"userId": "bad"})
    assert "spam" in assert_error(response, 403, "user_blocked")["message"]
    response = caller.post("/v1/sdk/reserve", RESERVE | {"outputTokens": 5000})
    assert_error(response, 429, "insufficient_quota")
    assert response["x-should-retry"] == "false"
    assert response["x-top-up-url"].endswith("/billing/")
    headers = {"x-run-id": "r", "x-run-max-credits": "0.4"}
    assert_error(caller.post("/v1/sdk/reserve", RESERVE, **headers), 429, "budget_exceeded")


def test_an_abandoned_reservation_expires_and_is_then_recorded_anew(caller):
    reservation = caller.post("/v1/sdk/reserve", RESERVE).json()["reservationId"]
    assert reaper.reap() == 0
    assert reaper.reap(dead_after=timedelta(0)) == 1
    assert figures(caller) == (10_000_000, 0, 0)
    assert_error(caller.post("/v1/sdk/commit", {"reservationId": reservation} | USED), 409, "reservation_expired")


def test_nobody_reaches_another_organizations_reservation(caller):
    reservation = caller.post("/v1/sdk/reserve", RESERVE).json()["reservationId"]
    other = customer(credit=10_000_000)
    for path in ("/v1/sdk/commit", "/v1/sdk/cancel"):
        for each in (reservation, str(uuid4())):
            error = assert_error(other.post(path, {"reservationId": each} | USED), 404, "reservation_not_found")
            assert error["param"] == "reservationId"
    assert Hold.objects.count() == 1


def test_the_scope_and_a_live_key_are_needed(caller):
    limited = customer(scopes=["chat"])
    for name in ("check", "record", "reserve", "commit", "cancel"):
        assert_error(limited.post(f"/v1/sdk/{name}", {}), 403, "scope_missing")
    keys.revoke(key=caller.key, by=None)
    assert_error(caller.post("/v1/sdk/check", CHECK), 401, "invalid_api_key")
