"""Choosing a deployment: weights, speed, cooldown and its probe, places, retries."""

import asyncio
import random
from collections import Counter
from dataclasses import replace

import orjson
import pytest

from proxy.gateway import routing
from proxy.gateway.attempts import Deadlines
from proxy.gateway.routing import Router
from proxy.gateway.upstream import ConnectFailed, TimedOut
from proxy.tests.kit import DEPLOYMENT, ROUTE, Kit, Script

ONE, TWO, THREE = (replace(DEPLOYMENT, id=number, provider=f"p{number}") for number in (1, 2, 3))
ANSWER = {
    "id": "1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
}
WHOLE = Script([orjson.dumps(ANSWER)])
FAILS = Script([b"{}"], status=500)
BODY = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}


def route(*deployments):
    return replace(ROUTE, deployments=deployments)


def router() -> Router:
    return Router(random_source=random.Random(7))


def first_of(one: Router, *deployments, times: int = 2_000) -> Counter[int]:
    return Counter(one.candidates(route(*deployments))[0].id for _ in range(times))


def test_weights_share_the_load():
    drawn = first_of(router(), ONE, replace(TWO, weight=3))
    assert 2.5 < drawn[2] / drawn[1] < 3.6


def test_the_lower_priority_comes_first():
    assert first_of(router(), replace(ONE, priority=1), TWO) == {2: 2_000}


def test_the_faster_of_equals_gets_more_but_the_slower_never_nothing():
    one = router()
    one.succeeded(ONE, 0.1)
    one.succeeded(TWO, 0.4)
    drawn = first_of(one, ONE, TWO)
    assert 3.3 < drawn[1] / drawn[2] < 4.8
    for _ in range(100):
        one.succeeded(TWO, 60.0)
    drawn = first_of(one, ONE, TWO)
    assert 4.2 < drawn[1] / drawn[2] < 5.9


async def test_a_failing_deployment_cools_down_and_is_then_tried_by_one_at_a_time(monkeypatch):
    now = 1_000.0
    monkeypatch.setattr(routing.time, "monotonic", lambda: now)
    one = router()
    for _ in range(3):
        one.failed(ONE)
    assert first_of(one, ONE, TWO) == {2: 2_000}
    now += 5.1
    assert set(first_of(one, ONE, TWO)) == {1, 2}
    probe = await one.enter([ONE], wait_s=0)
    assert probe is ONE
    assert first_of(one, ONE, TWO) == {2: 2_000}
    one.failed(ONE)
    one.leave(ONE)
    assert first_of(one, ONE, TWO) == {2: 2_000}
    now += 10.1
    await one.enter([ONE], wait_s=0)
    one.succeeded(ONE, 0.1)
    one.leave(ONE)
    assert set(first_of(one, ONE, TWO)) == {1, 2}


async def test_a_full_deployment_gives_way_and_a_place_is_waited_for():
    one, small = router(), replace(ONE, max_concurrency=1)
    assert await one.enter([small, TWO], wait_s=0) is small
    assert await one.enter([small, TWO], wait_s=0) is TWO
    assert await one.enter([small], wait_s=0.02) is None
    waits = asyncio.create_task(one.enter([small], wait_s=5))
    await asyncio.sleep(0.02)
    one.leave(small)
    assert await waits is small


async def test_a_request_that_finds_all_places_taken_is_told_to_come_again():
    small = replace(ONE, max_concurrency=1)
    release = asyncio.Event()
    kit = Kit(WHOLE, routes=(route(small),), deadlines=Deadlines(queue_s=0.02))
    post = kit.client.post

    async def slow(*arguments, **named):
        await release.wait()
        return await post(*arguments, **named)

    kit.client.post = slow
    first = asyncio.create_task(kit.call(body=BODY))
    await asyncio.sleep(0.05)
    refused = await kit.call(body=BODY)
    assert (refused.status, refused.error["code"]) == (503, "upstream_overloaded")
    assert refused.headers["retry-after"] == "2"
    release.set()
    assert (await first).status == 200
    assert (await kit.call(body=BODY)).status == 200
    assert [capture.cost for capture in kit.teller.captures] == [0, 20_000, 20_000]


@pytest.mark.parametrize(("scripts", "status", "calls"), [((FAILS, WHOLE), 200, 2), ((FAILS, FAILS, WHOLE), 502, 2)])
async def test_a_lone_deployment_is_tried_again_after_a_pause(scripts, status, calls):
    kit = Kit(*scripts, routes=(route(ONE),), deadlines=Deadlines(retries=1))
    assert (await kit.call(body=BODY)).status == status
    assert len(kit.client.requests) == calls
    assert len(kit.teller.captures[0].attempts) == calls


async def test_failover_comes_before_a_retry_and_the_log_tells_all():
    kit = Kit(
        FAILS,
        Script(error=ConnectFailed("x")),
        FAILS,
        WHOLE,
        routes=(route(ONE, TWO, THREE),),
        deadlines=Deadlines(retries=1),
    )
    answer = await kit.call(body=BODY)
    assert answer.status == 200
    attempts = kit.teller.captures[0].attempts
    assert [attempt["status"] for attempt in attempts] == [502, 502, 502, 200]
    assert len({attempt["deployment"] for attempt in attempts[:3]}) == 3
    assert answer.headers["x-upstream"] == attempts[-1]["deployment"]


async def test_a_deadline_that_passed_is_not_waited_for_again():
    kit = Kit(Script(error=TimedOut("x")), WHOLE, routes=(route(ONE),), deadlines=Deadlines(retries=1))
    assert (await kit.call(body=BODY)).status == 504
    assert len(kit.client.requests) == 1


async def test_a_short_wait_that_the_upstream_asks_for_is_kept(monkeypatch):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    busy = Script([b'{"error":{"message":"slow down"}}'], status=429)
    kit = Kit(busy, WHOLE, routes=(route(ONE),), deadlines=Deadlines(retries=1))
    monkeypatch.setattr("proxy.gateway.attempts.asyncio.sleep", sleep)
    assert (await kit.call(body=BODY)).status == 200
    assert 2.0 in pauses
