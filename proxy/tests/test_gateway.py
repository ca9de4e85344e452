"""Who may ask what, in which shape a refusal comes, and what the upstream gets to see."""

import asyncio
import time
from dataclasses import replace
from ipaddress import ip_network

import orjson
import pytest

from billing.pricing import Prices, Rate
from billing.teller import Refused
from proxy.gateway import relay
from proxy.tests.kit import (
    CUT,
    DEPLOYMENT,
    DONE,
    KEY,
    RATE,
    ROUTE,
    SECRET,
    Kit,
    Script,
    answer,
    chat,
    delta,
    stream,
    usage,
    usage_chunk,
)

OK = Script([answer(usage())])


def assert_openai_error(answered, status, code, type_=None):
    assert answered.status == status
    assert answered.headers["content-type"] == "application/json"
    assert answered.headers["x-request-id"].startswith("req_")
    assert set(answered.error) >= {"message", "type", "param", "code"}
    assert answered.error["code"] == code
    if type_:
        assert answered.error["type"] == type_


async def test_an_answer_carries_its_cost_and_what_is_left():
    kit = Kit(OK)
    answered = await kit.call(body=chat())
    assert answered.body == answer(usage())
    assert answered.headers["x-cost-credits"] == "0.0020"
    assert answered.headers["x-credits-remaining"] == "99999.9980"
    assert answered.headers["x-upstream"] == "up/real-model"


@pytest.mark.parametrize("header", ["authorization", "api-key", "x-api-key"])
async def test_a_key_is_read_from_three_headers(header):
    value = "Bearer sk-tup-test" if header == "authorization" else "sk-tup-test"
    answered = await Kit(OK).call(body=chat(), headers={header: value}, secret=None)
    assert answered.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer "},
        {"authorization": "Basic sk-tup-test"},
        {"authorization": "Bearer wrong", "api-key": "sk-tup-test"},
        {"authorization": "Bearer " + "x" * 100_000},
        {"authorization": "Bearer ' OR 1=1 --"},
        {"api-key": "wrong"},
        {"x-api-key": "\x00"},
    ],
)
async def test_without_a_live_key_nothing_is_asked(headers):
    kit = Kit(OK)
    for path in ("/v1/chat/completions", "/v1/models", "/v1/whatever"):
        method = "POST" if path != "/v1/models" else "GET"
        answered = await kit.call(path, chat(), method=method, headers=headers, secret=None)
        assert_openai_error(answered, 401, "invalid_api_key", "invalid_request_error")
        assert answered.headers["www-authenticate"] == "Bearer"
        assert len(answered.body) < 1_000
    assert kit.client.requests == []


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"scopes": frozenset({"embeddings"})}, 403, "scope_missing"),
        ({"allowed_endpoints": frozenset({"/v1/embeddings"})}, 403, "endpoint_not_allowed"),
        ({"allowed_models": frozenset({"other"})}, 403, "model_not_allowed"),
        ({"allowed_networks": (ip_network("198.51.100.0/24"),)}, 403, "ip_not_allowed"),
        ({"is_active": False}, 403, "organization_inactive"),
        ({"scopes": frozenset({"chat"}), "allowed_models": frozenset({"m"})}, 200, None),
        ({"allowed_networks": (ip_network("203.0.113.0/24"),)}, 200, None),
    ],
)
async def test_a_key_is_held_to_its_limits(changes, status, code):
    kit = Kit(OK, key=replace(KEY, **changes))
    answered = await kit.call(body=chat())
    assert answered.status == status
    if code:
        assert_openai_error(answered, status, code, "permission_error")
        assert kit.client.requests == []


async def test_behind_a_proxy_the_address_is_the_one_that_the_proxy_saw():
    key = replace(KEY, allowed_networks=(ip_network("198.51.100.0/24"),))
    kit = Kit(OK, key=key, trusted_proxies=1)
    spoofed = await kit.call(body=chat(), headers={"x-forwarded-for": "198.51.100.1, 203.0.113.9"})
    assert spoofed.status == 403
    honest = await kit.call(body=chat(), headers={"x-forwarded-for": "203.0.113.9, 198.51.100.1"})
    assert honest.status == 200


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 400, "invalid_json"),
        (b"{", {}, 400, "invalid_json"),
        (b"[]", {}, 400, "invalid_json"),
        (b'{"model": "\xff"}', {}, 400, "invalid_json"),
        (b"[" * 100_000, {}, 400, "invalid_json"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, {}, 400, "invalid_json"),
        (b"x" * 2_000, {"content-length": "2000"}, 413, "request_too_large"),
        (b"x" * 2_000, {}, 413, "request_too_large"),
        (b"{}", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {"content-encoding": "gzip"}, 400, "unsupported_content_encoding"),
        (b"{}", {}, 400, "missing_required_parameter"),
        (orjson.dumps(chat(model="nope")), {}, 404, "model_not_found"),
        (orjson.dumps(chat()), {"idempotency-key": ""}, 400, "invalid_value"),
        (orjson.dumps(chat()), {"idempotency-key": "x" * 256}, 400, "invalid_value"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(body, headers, status, code):
    kit = Kit(OK, max_body_bytes=1_000 if status == 413 else 10**6)
    answered = await kit.call(body=body, headers=headers)
    assert_openai_error(answered, status, code, "invalid_request_error")
    assert kit.client.requests == []
    assert kit.teller.captures == []


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_supported"),
        ("DELETE", "/v1/models", 405, "method_not_supported"),
        ("POST", "/v1/decisions", 404, "unknown_url"),
        ("GET", "/v1/", 404, "unknown_url"),
        ("POST", "/v1/chat/completions/", 404, "unknown_url"),
        ("GET", "/v1/models/nope", 404, "model_not_found"),
    ],
)
async def test_an_unknown_url_or_method_is_json(method, path, status, code):
    assert_openai_error(await Kit(OK).call(path, method=method), status, code)


@pytest.mark.parametrize(
    "path", ["//v1/chat/completions", "/v1//chat/completions", "/v1/v1/chat/completions", "//v1//v1/chat//completions"]
)
async def test_a_base_url_joined_without_care_is_told_the_right_path(path):
    kit = Kit(OK)
    for secret in (SECRET, None):
        answered = await kit.call(path, chat(), secret=secret)
        assert_openai_error(answered, 404, "unknown_url")
        assert "Did you mean /v1/chat/completions?" in answered.error["message"]
    assert kit.client.requests == []


async def test_models_are_the_catalogues():
    hidden = replace(ROUTE, model="hidden", is_listed=False)
    kit = Kit(routes=(ROUTE, hidden, replace(ROUTE, model="@cf/openai/gpt-oss-20b")))
    listed = await kit.call("/v1/models", method="GET")
    assert [model["id"] for model in listed.json()["data"]] == ["m", "@cf/openai/gpt-oss-20b"]
    one = await kit.call("/v1/models/@cf%2Fopenai%2Fgpt-oss-20b", method="GET")
    assert one.json() == {"id": "@cf/openai/gpt-oss-20b", "object": "model", "created": 1, "owned_by": "us"}


async def test_a_model_without_a_price_is_refused():
    kit = Kit(OK, routes=(replace(ROUTE, rate=None),))
    assert_openai_error(await kit.call(body=chat()), 400, "model_not_priced")
    assert kit.client.requests == []


async def test_a_service_tier_without_a_price_is_refused():
    kit = Kit(OK)
    assert_openai_error(await kit.call(body=chat(service_tier="flex")), 400, "unsupported_value")
    assert kit.client.requests == []


async def test_the_answers_tier_prices_the_request():
    flex = Prices(input=500_000_000, output=1_000_000_000)
    kit = Kit(
        Script([answer(usage()).replace(b'"id"', b'"service_tier":"flex","id"', 1)]),
        routes=(replace(ROUTE, rate=replace(RATE, tiers={"flex": flex})),),
    )
    await kit.call(body=chat(service_tier="auto"))
    assert kit.teller.captures[0].cost == 10 * 500 + 5 * 1_000


async def test_what_has_no_price_is_charged_as_the_dearest_kind():
    spoken = usage(completion_tokens_details={"audio_tokens": 5})
    kit = Kit(Script([answer(spoken)]))
    await kit.call(body=chat())
    assert kit.teller.captures[0].cost == 20_000


async def test_a_model_is_refused_on_an_endpoint_that_it_does_not_serve():
    kit = Kit(OK, routes=(replace(ROUTE, endpoints=frozenset({"/v1/embeddings"})),))
    assert_openai_error(await kit.call(body=chat()), 400, "unsupported_model")


async def test_the_upstream_sees_nothing_of_the_client():
    kit = Kit(OK)
    await kit.call(
        body=chat(),
        headers={
            "cookie": "sessionid=secret",
            "openai-organization": "org-client",
            "x-forwarded-for": "10.0.0.1",
            "x-api-key": "other",
        },
    )
    url, headers, body = kit.client.requests[0]
    assert url == "http://upstream/v1/chat/completions"
    assert headers == {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "tuppence",
        "authorization": "Bearer sk-upstream-secret",
    }
    assert body == chat(model="real-model")


async def test_what_the_upstream_says_is_scrubbed():
    told = {"message": "real-model at https://10.1.2.3/x rejects sk-upstream-secret", "type": "t", "code": 17}
    kit = Kit(Script([orjson.dumps({"error": told})], status=400))
    answered = await kit.call(body=chat())
    assert answered.error == {"message": "m at [hidden] rejects [hidden]", "type": "t", "param": None, "code": "17"}


async def test_a_failing_deployment_gives_way_to_the_next():
    second = replace(DEPLOYMENT, id=2, provider="spare", priority=1)
    route = replace(ROUTE, deployments=(DEPLOYMENT, second))
    kit = Kit(Script([b"x"], status=500), OK, routes=(route,))
    answered = await kit.call(body=chat())
    assert answered.headers["x-upstream"] == "spare/real-model"
    attempts = kit.teller.captures[0].attempts
    assert [(attempt["deployment"], attempt["status"]) for attempt in attempts] == [
        ("up/real-model", 502),
        ("spare/real-model", 200),
    ]


async def test_a_rejection_is_not_tried_elsewhere():
    second = replace(DEPLOYMENT, id=2, provider="spare", priority=1)
    route = replace(ROUTE, deployments=(DEPLOYMENT, second))
    kit = Kit(Script([b'{"error":{"message":"no"}}'], status=400), OK, routes=(route,))
    assert (await kit.call(body=chat())).status == 400
    assert len(kit.client.requests) == 1


async def test_a_stale_connection_is_tried_once_more():
    stale = type(CUT)("stale")
    stale.is_stale = True
    kit = Kit(Script(error=stale), OK)
    assert (await kit.call(body=chat())).status == 200
    assert len(kit.client.requests) == 2


async def test_a_stream_ends_with_its_cost():
    kit = Kit(stream(delta("hello", "stop"), usage_chunk(), DONE))
    answered = await kit.call(body=chat(stream=True))
    assert answered.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answered.headers["x-upstream"] == "up/real-model"
    end = b"data: [DONE]\n\n: x-cost-credits 0.0020\n: x-credits-remaining 99999.9980\n\n"
    assert answered.body == delta("hello", "stop") + end


async def test_the_last_byte_waits_for_the_charge():
    kit = Kit(stream(delta("hello", "stop"), usage_chunk(), DONE))
    charged_at_done = []

    def on_send(message):
        if b"[DONE]" in message.get("body", b""):
            charged_at_done.append(len(kit.teller.captures))

    await kit.call(body=chat(stream=True), on_send=on_send)
    assert charged_at_done == [1]


async def test_no_credit_is_a_429_that_is_not_retried():
    kit = Kit(OK, balance=1_000)
    answered = await kit.call(body=chat(max_tokens=100))
    assert_openai_error(answered, 429, "insufficient_quota", "insufficient_quota")
    assert answered.headers["x-should-retry"] == "false"
    assert answered.headers["x-top-up-url"] == "https://example.test/o/acme/billing/"
    assert kit.client.requests == []


async def test_without_a_limit_the_output_is_capped_to_what_the_balance_affords():
    kit = Kit(OK, balance=1_000_000)
    await kit.call(body=chat())
    cap = kit.client.requests[0][2]["max_tokens"]
    assert 16 <= cap < 500
    assert kit.teller.captures[0].hold <= 1_000_000


async def test_a_budget_that_binds_explains_itself():
    kit = Kit(OK)
    rule = {"id": 1, "scope": "key", "subject": "7", "period": "day", "unit": "cost", "cap": 10**9, "used": 10**9,
            "held": 0, "resets_at": "2026-11-21T00:00:00Z"}  # fmt: skip
    kit.teller.refusal = Refused("budget", 0, rule)
    answered = await kit.call(body=chat())
    assert_openai_error(answered, 429, "budget_exceeded", "insufficient_quota")
    assert answered.headers["x-should-retry"] == "false"
    assert answered.error["rule"] == rule
    for part in (
        "day budget of this key is 100.0000 credits",
        "2026-11-21T00:00:00Z",
        "https://example.test/o/acme/keys/",
    ):
        assert part in answered.error["message"]


async def test_postgresql_away_is_a_503_that_is_retried():
    kit = Kit(OK)
    kit.teller.is_away = True
    answered = await kit.call(body=chat())
    assert_openai_error(answered, 503, "service_unavailable", "server_error")
    assert answered.headers["retry-after"] == "1"


async def test_end_users_and_runs_are_recorded():
    kit = Kit(OK)
    headers = {"x-user-id": "header-user", "x-run-id": "run-1", "x-org-id": "team blue"}
    await kit.call(body=chat(user="body-user"), headers=headers)
    await kit.call(body=chat(user="body-user"))
    first, second = kit.teller.captures
    assert (first.end_user, first.run_id, first.org_label) == ("header-user", "run-1", "team blue")
    assert (second.end_user, second.org_label) == ("body-user", "")


async def test_a_charge_that_waits_for_the_database_keeps_its_idempotency_key(monkeypatch):
    monkeypatch.setattr(relay, "CAPTURE_TIMEOUT_S", 0.01)
    kit = Kit(OK)
    capture, is_back = kit.teller.capture, asyncio.Event()

    async def commit(row):
        await is_back.wait()
        return await capture(row)

    async def wait(row):  # whoever waits no longer takes nothing back
        return await asyncio.shield(commit(row))

    monkeypatch.setattr(kit.teller, "capture", wait)
    assert (await kit.call(body=chat(), headers={"idempotency-key": "a"})).status == 503
    is_back.set()
    again = await kit.call(body=chat(), headers={"idempotency-key": "a"})
    assert (again.status, again.headers["idempotent-replayed"]) == (200, "true")
    assert len(kit.teller.captures) == 1


async def test_a_longer_prompt_cache_is_held_for():
    rate = Rate("m", 1, Prices(input=1_000_000_000, cache_write_12h=2_500_000_000, output=0))
    kit = Kit(OK, OK, routes=(replace(ROUTE, rate=rate),))
    await kit.call(body=chat())
    await kit.call(body=chat(prompt_cache_options={"ttl": "12h"}))
    short, long = (capture.hold for capture in kit.teller.captures)
    assert long > 2 * short


async def test_an_idempotency_key_answers_a_repeat_from_the_first_result():
    kit = Kit(OK)
    first = await kit.call(body=chat(), headers={"idempotency-key": "a"})
    second = await kit.call(body=chat(), headers={"idempotency-key": "a"})
    assert second.body == first.body
    assert second.headers["idempotent-replayed"] == "true"
    assert second.headers["x-request-id"] == first.headers["x-request-id"]
    assert len(kit.teller.captures) == len(kit.client.requests) == 1


async def test_a_stream_is_replayed_byte_for_byte():
    kit = Kit(stream(delta("hello", "stop"), usage_chunk(), DONE))
    first = await kit.call(body=chat(stream=True), headers={"idempotency-key": "a"})
    second = await kit.call(body=chat(stream=True), headers={"idempotency-key": "a"})
    assert second.events == first.events
    assert len(kit.teller.captures) == 1


async def test_another_body_under_the_same_idempotency_key_is_409():
    kit = Kit(OK)
    await kit.call(body=chat(), headers={"idempotency-key": "a"})
    answered = await kit.call(body=chat(n=2), headers={"idempotency-key": "a"})
    assert_openai_error(answered, 409, "idempotency_key_reused")
    assert answered.headers["x-should-retry"] == "false"


async def test_a_failure_that_cost_nothing_frees_its_idempotency_key():
    kit = Kit(Script([b"x"], status=500), OK)
    assert (await kit.call(body=chat(), headers={"idempotency-key": "a"})).status == 502
    assert (await kit.call(body=chat(), headers={"idempotency-key": "a"})).status == 200


async def test_rate_limits_are_told_and_enforced():
    kit = Kit(OK, key=replace(KEY, rpm=1))
    first = await kit.call(body=chat())
    assert first.headers["x-ratelimit-limit-requests"] == "1"
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    second = await kit.call(body=chat())
    assert_openai_error(second, 429, "rate_limit_exceeded", "requests")
    assert 1 <= int(second.headers["retry-after"]) <= 60
    assert len(kit.client.requests) == 1


async def test_draining_waits_for_what_runs():
    kit = Kit(OK)
    started = time.monotonic()
    await kit.gateway.drain(5)
    assert time.monotonic() - started < 1
    assert kit.gateway.in_flight == 0
