"""Ceilings of the caller's own, rates of the organization, and requests at once."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import orjson
import pytest
import redis.asyncio as redis_asyncio

from proxy.gateway.concurrency import Concurrency
from proxy.gateway.errors import TooManyAtOnce
from proxy.tests.kit import KEY, Kit, Script

ANSWER = {
    "id": "1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}
WHOLE = Script([orjson.dumps(ANSWER)])
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


async def test_a_call_that_may_cost_more_than_its_ceiling_is_refused_and_holds_nothing():
    kit = Kit(WHOLE)
    # 1,000 output tokens may cost 2,000,000 nano-dollars, that is 0.2 credits.
    answer = await kit.call(body=BODY | {"max_tokens": 1_000}, headers={"x-max-credits": "0.1"})
    assert (answer.status, answer.error["code"], answer.error["rule"]["scope"]) == (429, "budget_exceeded", "call")
    assert answer.headers["x-should-retry"] == "false"
    assert "x-max-credits allows 0.1000 credits" in answer.error["message"]
    assert kit.teller.captures == []
    assert (await kit.call(body=BODY | {"max_tokens": 1_000}, headers={"x-max-credits": "0.3"})).status == 200


async def test_a_call_without_a_limit_is_cut_to_its_ceiling():
    kit = Kit(WHOLE)
    assert (await kit.call(body=BODY, headers={"x-max-credits": "0.1"})).status == 200
    sent = kit.client.requests[0][2]
    assert 400 < sent["max_tokens"] < 500  # 0.1 credits are 1,000,000 nano-dollars: 500 tokens, less the prompt
    assert kit.teller.captures[0].hold <= 1_000_000


@pytest.mark.parametrize("value", ["x", "-1", "", "1,5", "0.00000001"])
async def test_a_ceiling_that_is_no_amount_is_refused(value):
    answer = await Kit(WHOLE).call(body=BODY, headers={"x-max-credits": value})
    assert (answer.status, answer.error["param"]) == (400, "x-max-credits")


async def test_a_runs_ceiling_goes_to_the_teller_with_its_run():
    kit = Kit(WHOLE)
    asked = []
    hold = kit.teller.hold

    async def note(request):
        asked.append(request)
        return await hold(request)

    kit.teller.hold = note
    await kit.call(body=BODY, headers={"x-run-id": "agent-1", "x-run-max-credits": "5"})
    await kit.call(body=BODY, headers={"x-run-max-credits": "5"})
    assert [(request.run_id, request.run_cap) for request in asked] == [("agent-1", 50_000_000), ("", 0)]


async def test_the_organizations_rate_counts_beside_the_keys():
    kit = Kit(WHOLE, key=replace(KEY, rpm=10, organization_rpm=2))
    assert [(await kit.call(body=BODY)).status for _ in range(3)] == [200, 200, 429]


async def test_requests_at_once_are_limited_and_places_are_given_back():
    release = asyncio.Event()
    kit = Kit(WHOLE, key=replace(KEY, max_concurrent=1, organization_max_concurrent=5))
    hold = kit.teller.hold

    async def slow(request):
        await release.wait()
        return await hold(request)

    kit.teller.hold = slow
    first = asyncio.create_task(kit.call(body=BODY))
    await asyncio.sleep(0.05)
    refused = await kit.call(body=BODY)
    assert (refused.status, refused.error["code"]) == (429, "concurrency_limit_exceeded")
    assert refused.headers["retry-after"] == "1"
    release.set()
    assert (await first).status == 200
    assert (await kit.call(body=BODY)).status == 200


async def test_a_refused_request_takes_no_place():
    concurrency = Concurrency(None)
    with pytest.raises(ZeroDivisionError):
        async with concurrency.place([("key1", 1)], uuid4()):
            raise ZeroDivisionError
    async with concurrency.place([("key1", 1), ("organization1", 2)], uuid4()):
        with pytest.raises(TooManyAtOnce, match="API key"):
            async with concurrency.place([("key1", 1), ("organization1", 2)], uuid4()):
                pass
        async with concurrency.place([("key2", 1), ("organization1", 2)], uuid4()):
            with pytest.raises(TooManyAtOnce, match="organization"):
                async with concurrency.place([("key3", 1), ("organization1", 2)], uuid4()):
                    pass


async def test_places_are_shared_through_redis(settings):
    client = redis_asyncio.Redis.from_url(settings.REDIS_URL)
    here, there = Concurrency(client), Concurrency(client)
    who = f"key{uuid4().hex}"
    try:
        async with here.place([(who, 2)], uuid4()), there.place([(who, 2)], uuid4()):
            with pytest.raises(TooManyAtOnce):
                async with there.place([(who, 2)], uuid4()):
                    pass
        async with there.place([(who, 1)], uuid4()):
            pass
    finally:
        await client.aclose()


async def test_places_are_counted_here_while_redis_is_away():
    client = redis_asyncio.Redis(port=1, socket_connect_timeout=0.2)
    concurrency = Concurrency(client)
    async with concurrency.place([("key1", 1)], uuid4()):
        with pytest.raises(TooManyAtOnce):
            async with concurrency.place([("key1", 1)], uuid4()):
                pass
    await client.aclose()
