"""Quotes and estimates: the gateway's own hold, the likely cost, and why a request would be refused."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing import blocks, budgets, ledger
from billing.models import UsageRollup
from proxy.api import quoting
from proxy.gateway.limits import Limiter
from proxy.gateway.snapshots import Catalog
from proxy.tests.api_kit import assert_error, customer, model
from proxy.tests.kit import ROUTE, Kit, Script, answer, chat, usage
from proxy.tests.test_image_tool import ROUTES as IMAGES
from proxy.tests.test_image_tool import request

pytestmark = pytest.mark.django_db(transaction=True)

# "user\nhello world" is 4 tokens of o200k, 6 for a vocabulary that we do not have (4 x 1.2 rounded, + 1); 3 + 4 + 2 of
# the message around it make 15, and 35 with the hold's margin. 35 x 1,000 + 100 x 2,000 = 235,000 nano-dollars.
BODY = chat(max_tokens=100)
HOLD, EXPECTED = "0.0235", "0.0215"  # expected: 15 x 1,000 + 100 x 2,000 = 215,000


def limits(told: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [limit for limit in told["limits"] if limit["limit"] == kind]


def test_a_quote_is_what_the_gateway_would_hold():
    model()
    told = customer(credit=10**9).post("/v1/quote", BODY).json()
    assert told["hold"] == {"credits": HOLD, "usd": "0.000235000", "input_tokens": 35, "output_tokens": 100}
    assert told["expected"] | {} == {
        "credits": EXPECTED,
        "usd": "0.000215000",
        "input_tokens": 15,
        "output_tokens": 100,
        "basis": "limit",
    }
    assert (told["endpoint"], told["model"], told["is_allowed"]) == ("/v1/chat/completions", "m", True)
    assert told["binding"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat()),
        ("/v1/chat/completions", chat(max_tokens=7, n=3)),
        (
            "/v1/chat/completions",
            chat(max_completion_tokens=9, tools=[{"type": "function", "function": {"name": "f"}}]),
        ),
        ("/v1/completions", {"model": "m", "prompt": ["a", "b c"], "best_of": 2}),
        ("/v1/embeddings", {"model": "m", "input": "hello world"}),
    ],
)
async def test_a_quote_never_differs_from_the_gateways_own_hold(path, body):
    kit = Kit(Script([answer(usage())]))
    await kit.call(path, body)
    quoted = quoting.quote(dict(body), Catalog({"m": ROUTE}), endpoint=path)
    assert quoted.hold_nanos == kit.teller.captures[0].hold


async def test_a_quote_with_the_image_tool_is_what_is_held_for_both():
    kit = Kit(
        Script([b'{"object":"response","output":[],"usage":{"input_tokens":1,"output_tokens":1}}']), routes=IMAGES
    )
    body = request(max_tool_calls=3)
    await kit.call("/v1/responses", body)
    quoted = quoting.quote(request(max_tool_calls=3), Catalog({route.model: route for route in IMAGES}))
    assert quoted.images is not None
    held = {capture.model: capture.hold for capture in kit.teller.captures}
    assert held == {"m": quoted.hold_nanos - quoted.images.hold_nanos, "painter": quoted.images.hold_nanos}
    assert quoted.one_image_nanos * 3 < quoted.images.hold_nanos  # a later one may build on those before it


def test_a_quote_tells_of_the_image_tool():
    model()
    model("painter", endpoints=["/v1/images/generations"])
    caller = customer(credit=10**9, allowed_models=["m"])
    told = caller.post("/v1/quote", request(max_tool_calls=1)).json()
    assert (told["images"]["model"], told["images"]["endpoint"]) == ("painter", "/v1/images/generations")
    assert [limit["code"] for limit in told["binding"]] == ["model_not_allowed"]
    assert float(told["hold"]["credits"]) > float(told["images"]["hold"]["credits"]) > 0
    assert_error(caller.post("/v1/quote", request(tool={"model": "none-such"})), 400, "unsupported_value")


@pytest.mark.parametrize(
    ("body", "endpoint"),
    [
        (chat(), "/v1/chat/completions"),
        ({"model": "m", "prompt": "hello"}, "/v1/completions"),
        ({"model": "m", "input": "hello"}, "/v1/embeddings"),
        ({"model": "m", "input": "hello", "endpoint": "embeddings"}, "/v1/embeddings"),
    ],
)
def test_the_endpoint_is_seen_from_the_body_or_said(body, endpoint):
    model(endpoints=[endpoint])
    assert customer().post("/v1/quote", body).json()["endpoint"] == endpoint


def test_the_likely_cost_is_learnt_from_the_organizations_own_requests():
    model()
    caller = customer(credit=10**9)
    for output, days in ((40, 1), (21, 2), (9_999, 31)):
        UsageRollup.objects.create(
            hour=timezone.now() - timedelta(days=days),
            organization=caller.organization,
            key=caller.key,
            end_user="",
            model="m",
            endpoint="/v1/chat/completions",
            requests=1,
            output_tokens=output,
        )
    told = caller.post("/v1/quote", BODY).json()["expected"]
    # (40 + 21) / 2 = 30.5, so 31: 15 x 1,000 + 31 x 2,000 = 77,000; the one of 31 days ago counts no more.
    assert (told["output_tokens"], told["credits"], told["basis"]) == (31, "0.0077", "history")


def test_what_the_body_decides_is_not_guessed_from_earlier_requests():
    model(endpoints=["/v1/images/generations"])
    caller = customer(credit=10**9)
    UsageRollup.objects.create(
        hour=timezone.now(), organization=caller.organization, key=caller.key, end_user="", model="m",
        endpoint="/v1/images/generations", requests=1, output_tokens=272,
    )  # fmt: skip
    body = {"model": "m", "prompt": "a cat", "n": 2, "quality": "high", "size": "1024x1536"}
    told = caller.post("/v1/credits/estimate", body).json()
    assert (told["output_tokens"], told["basis"]) == (2 * 6_240, "request")
    left_open = caller.post("/v1/credits/estimate", body | {"quality": "auto"}).json()
    assert (left_open["output_tokens"], left_open["basis"]) == (272, "history")


def test_too_little_credit_binds_or_shortens_the_answer():
    model()
    caller = customer(credit=100_000)
    told = caller.post("/v1/quote", BODY).json()
    assert not told["is_allowed"]
    (credit,) = told["binding"]
    assert (credit["limit"], credit["code"]) == ("credit", "insufficient_quota")
    assert (credit["available"], credit["needed"]) == ("0.0100", HOLD)
    open_ended = caller.post("/v1/quote", chat()).json()
    assert open_ended["is_allowed"]
    # (100,000 - 35 x 1,000) / 2,000 = 32.5: 32 output tokens.
    assert limits(open_ended, "credit")[0]["output_tokens_capped_to"] == 32


def test_every_budget_that_binds_is_named_with_its_figures():
    model()
    caller = customer(credit=10**9)
    organization = caller.organization
    caps = {"cost_cap_nanos": 234_999, "token_cap": None}
    budgets.set_budget(organization=organization, scope="organization", period="month", **caps)
    budgets.set_budget(organization=organization, scope="end_user", end_user="u", period="day", **caps)
    budgets.set_budget(organization=organization, scope="end_user", end_user="other", period="day", **caps)
    budgets.set_budget(organization=organization, scope="run", run_id="r", period="total", **caps)
    budgets.set_for_key(key=caller.key, period="day", cost_cap_nanos=235_000, token_cap=134)
    told = caller.post("/v1/quote", BODY | {"user": "u"}, **{"x-run-id": "r"}).json()
    binding = [(limit["scope"], limit["unit"], limit["cap"]) for limit in told["binding"]]
    assert binding == [
        ("organization", "credits", "0.0234999"),
        ("key", "tokens", 134),  # 35 + 100 = 135 are needed
        ("end_user", "credits", "0.0234999"),
        ("run", "credits", "0.0234999"),
    ]
    assert {limit["code"] for limit in told["binding"]} == {"budget_exceeded"}
    assert "135" in told["binding"][1]["why"]
    assert told["binding"][3]["resets_at"] is None


def test_blocks_allow_lists_and_the_callers_own_ceilings_bind():
    model()
    caller = customer(credit=10**9, scopes=["embeddings"], allowed_models=["x"], allowed_endpoints=["/v1/embeddings"])
    until = datetime(2100, 1, 1, tzinfo=UTC)
    blocks.block(organization=caller.organization, end_user="u", reason="spam", expires_at=until)
    headers = {"x-user-id": "u", "x-run-id": "r", "x-run-max-credits": "0.02", "x-max-credits": "0.0235"}
    told = caller.post("/v1/quote", BODY, **headers).json()
    assert [(limit["limit"], limit["code"]) for limit in told["binding"]] == [
        ("scopes", "scope_missing"),
        ("allowed_endpoints", "endpoint_not_allowed"),
        ("allowed_models", "model_not_allowed"),
        ("block", "user_blocked"),
        ("run_max_credits", "budget_exceeded"),
    ]
    assert limits(told, "block")[0]["reason"] == "spam"
    assert limits(told, "block")[0]["expires_at"] == "2100-01-01T00:00:00Z"
    assert not limits(told, "max_credits")[0]["binds"]


def test_what_the_gateway_has_counted_in_this_minute_is_seen(settings):
    import redis.asyncio

    model()
    caller = customer(credit=10**9, rpm=2, tpm=1000)

    async def count() -> None:
        limiter = Limiter(redis.asyncio.Redis.from_url(settings.REDIS_URL))
        for _ in range(2):
            await limiter.admit(caller.key.pk, rpm=2, tpm=1000, tokens=450)
        await limiter.close()

    asyncio.run(count())
    requests, tokens = limits(caller.post("/v1/quote", BODY).json(), "rate")
    assert (requests["unit"], requests["cap"], requests["binds"]) == ("requests", 2, True)
    # 900 of 1,000 were counted and refill at 1,000 a minute; the request counts 135.
    assert (tokens["unit"], tokens["binds"]) == ("tokens", True)
    assert 100 <= tokens["left"] < 134


def test_a_frozen_account_binds():
    model()
    caller = customer(credit=10**9)
    ledger.freeze(account=caller.account, reason="test")
    assert [limit["code"] for limit in caller.post("/v1/quote", BODY).json()["binding"]] == ["account_frozen"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "none-such", "messages": [{"role": "user", "content": "x"}]}, 404, "model_not_found"),
        (chat(model="unpriced"), 400, "model_not_priced"),
        (chat(messages=[]), 400, "invalid_value"),
        (chat(service_tier="priority"), 400, "unsupported_value"),
        ({"model": "m"}, 400, "invalid_value"),
        ({"model": "m", "endpoint": "/v1/whatever"}, 400, "invalid_value"),
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
    ],
)
def test_what_the_gateway_would_refuse_as_wrong_is_refused_the_same(body, status, code):
    model()
    model("unpriced", priced=False)
    caller = customer()
    for path in ("/v1/quote", "/v1/credits/estimate"):
        assert_error(caller.post(path, body), status, code)


def test_a_wrong_ceiling_is_said():
    model()
    error = assert_error(customer().post("/v1/quote", BODY, **{"x-max-credits": "much"}), 400, "invalid_value")
    assert error["param"] == "x-max-credits"


def test_an_estimate_tells_the_likely_and_the_highest_cost():
    model()
    told = customer(credit=234_999).post("/v1/credits/estimate", BODY).json()
    assert (told["estimated_credits"], told["max_credits"]) == (EXPECTED, HOLD)
    assert (told["estimated_usd"], told["max_usd"]) == ("0.000215000", "0.000235000")
    assert (told["available_credits"], told["is_affordable"]) == ("0.0234999", False)


def test_a_body_too_large_is_refused_before_it_is_read(settings):
    settings.GATEWAY_MAX_BODY_BYTES = 1024
    assert_error(customer().post("/v1/quote", chat(user="x" * 1100)), 413, "request_too_large")


def test_the_balance_needs_the_scope_and_a_site_that_sells_credit(settings):
    assert customer(credit=123_456_000).get("/v1/credits/balance").json() | {"organization": ""} == {
        "object": "credit_balance",
        "organization": "",
        "balance": "12.3456",
        "held": "0.0000",
        "credit_limit": "0.0000",
        "available": "12.3456",
        "available_usd": "0.123456000",
    }
    assert_error(customer(scopes=["chat"]).get("/v1/credits/balance"), 403, "scope_missing")
    assert customer(scopes=["management"]).get("/v1/credits/balance").status_code == 200
    settings.IS_SELF_HOSTED = True
    assert_error(customer().get("/v1/credits/balance"), 404, "unknown_url")


def test_the_price_list_has_what_this_key_may_use():
    model()
    model("other")
    model("unpriced", priced=False)
    caller = customer(allowed_models=["m"])
    (price,) = caller.get("/v1/credits/pricing").json()["data"]
    assert price["model"] == "m"
    assert price["credits_per_million_tokens"] == {"input": "100.0000", "output": "200.0000"}  # $1 and $2
    assert price["rates_usd"] == {"input": "1", "output": "2"}
    assert len(customer().get("/v1/credits/pricing").json()["data"]) == 2
