"""The limiter against a real Redis, and without one. Both keep the same rules."""

import asyncio
import os

import pytest
import redis.asyncio as redis_asyncio

from proxy.gateway.errors import RateLimited
from proxy.gateway.limits import Allowance, Limiter, go_duration


@pytest.fixture(params=["redis", "process"])
async def limiter(request):
    client = redis_asyncio.Redis.from_url(os.environ["REDIS_URL"]) if request.param == "redis" else None
    if client is not None:
        await client.flushdb()
    limiter = Limiter(client)
    yield limiter
    await limiter.close()


async def test_a_limit_of_n_lets_n_pass_at_once(limiter):
    for left in (2, 1, 0):
        allowance = await limiter.admit(1, rpm=3, tpm=0, tokens=10)
        assert dict(allowance.headers())["x-ratelimit-remaining-requests"] == str(left)
    with pytest.raises(RateLimited) as refused:
        await limiter.admit(1, rpm=3, tpm=0, tokens=10)
    assert refused.value.type == "requests"
    assert 1 <= int(dict(refused.value.headers)["retry-after"]) <= 20
    standing = {name: value for name, value in refused.value.headers if name.startswith("x-ratelimit")}
    assert standing.pop("x-ratelimit-reset-requests").endswith("s")
    assert standing == {"x-ratelimit-limit-requests": "3", "x-ratelimit-remaining-requests": "0"}


async def test_keys_do_not_share_a_limit(limiter):
    await limiter.admit(1, rpm=1, tpm=0, tokens=1)
    await limiter.admit(2, rpm=1, tpm=0, tokens=1)


async def test_a_request_refused_for_tokens_costs_no_request(limiter):
    await limiter.admit(1, rpm=2, tpm=100, tokens=100)
    for _ in range(3):
        with pytest.raises(RateLimited) as refused:
            await limiter.admit(1, rpm=2, tpm=100, tokens=50)
        assert refused.value.type == "tokens"
    limiter.correct(1, tpm=100, tokens=-100)
    allowance = await limiter.admit(1, rpm=2, tpm=100, tokens=50)
    assert dict(allowance.headers())["x-ratelimit-remaining-requests"] == "0"


async def test_more_tokens_than_the_limit_never_pass(limiter):
    with pytest.raises(RateLimited):
        await limiter.admit(1, rpm=0, tpm=100, tokens=101)


async def test_no_limit_needs_no_redis(limiter):
    allowance = await limiter.admit(1, rpm=0, tpm=0, tokens=1_000_000)
    assert allowance.headers() == []


async def test_of_parallel_requests_exactly_the_limit_passes(limiter):
    answers = await asyncio.gather(
        *(limiter.admit(7, rpm=25, tpm=0, tokens=1) for _ in range(100)), return_exceptions=True
    )
    assert sum(isinstance(answer, Allowance) for answer in answers) == 25
    assert sum(isinstance(answer, RateLimited) for answer in answers) == 75


async def test_a_redis_that_is_away_leaves_limits_to_the_process():
    limiter = Limiter(redis_asyncio.Redis.from_url("redis://127.0.0.1:1/0"))
    await limiter.admit(1, rpm=1, tpm=0, tokens=1)
    with pytest.raises(RateLimited):
        await limiter.admit(1, rpm=1, tpm=0, tokens=1)
    await limiter.close()


async def test_a_flushed_redis_starts_anew():
    client = redis_asyncio.Redis.from_url(os.environ["REDIS_URL"])
    limiter = Limiter(client)
    await limiter.admit(1, rpm=1000, tpm=0, tokens=1)
    await client.flushdb()
    await client.script_flush()
    for _ in range(3):
        await limiter.admit(1, rpm=1000, tpm=0, tokens=1)
    await limiter.close()


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(0, "0ms"), (1, "1ms"), (120_000, "120ms"), (1_000_000, "1s"), (59_000_001, "1m0s"), (366_000_000, "6m6s")],
)
def test_resets_are_go_durations(microseconds, text):
    assert go_duration(microseconds) == text
