"""Many at once: a balance that pays for some of them, one Idempotency-Key for all of them, a key that is revoked."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from config.tests import books
from config.tests.processes import Installation, Service
from config.tests.scripted import Upstream

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("races")]

OUTPUT = 1_000
TOKENS = 16
COST = TOKENS * OUTPUT  # input is free in this model, so a hold is exactly what the answer will cost


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Caller:
    """Calls the gateway with a new connection each time, so that both workers get their share."""

    session: aiohttp.ClientSession
    base_url: str

    async def chat(self, secret: str, prompt: str = "hello", *, tokens: int = TOKENS, **headers: str) -> Answer:
        body = {"model": "exact", "max_tokens": tokens, "messages": [{"role": "user", "content": prompt}]}
        return await self.post(secret, body, **headers)

    async def post(self, secret: str, body: dict[str, Any], **headers: str) -> Answer:
        sent = {"authorization": f"Bearer {secret}", **{name.replace("_", "-"): v for name, v in headers.items()}}
        async with self.session.post(f"{self.base_url}/v1/chat/completions", json=body, headers=sent) as answer:
            lowered = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, lowered, await answer.json())


@pytest.fixture(scope="module")
def two_workers(installation: Installation, upstream: Upstream) -> Service:
    installation.clerk.model(
        name="exact", base_url=upstream.base_url, upstream_name="m", prices={"input": 0, "output": OUTPUT}
    )
    return installation.web(workers=2)


@pytest.fixture
async def caller(two_workers: Service) -> AsyncIterator[Caller]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Caller(session, two_workers.url)


async def test_500_at_once_on_a_balance_for_100_buy_exactly_100(
    site: Installation, caller: Caller, upstream: Upstream
) -> None:
    credit = 100 * COST + COST // 2  # a hundred and a half: the half must not be rounded up to one
    customer = site.clerk.organization(name="crowd", credit_nanos=credit)
    done = asyncio.Event()
    lowest = credit
    broken: list[str] = []

    async def watch() -> None:
        nonlocal lowest
        while not done.is_set():
            account = await asyncio.to_thread(books.account, site, customer["account_id"])
            lowest = min(lowest, account.available)
            broken.extend(await asyncio.to_thread(books.broken_rules, site))
            await asyncio.sleep(0.05)

    watcher = asyncio.create_task(watch())
    answers = await asyncio.gather(*(caller.chat(customer["secret"], f"m-crowd-{n} [[pace=200]]") for n in range(500)))
    done.set()
    await watcher

    assert Counter(answer.status for answer in answers) == {200: 100, 429: 400}
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.body["error"]["code"] for answer in refused} == {"insufficient_quota"}
    assert lowest >= 0
    assert broken == []
    assert len([call for call in upstream.calls if call.marker.startswith("m-crowd-")]) == 100
    charged = {row["request_id"]: row["cost_nanos"] for row in books.usage(site, customer["id"]) if row["cost_nanos"]}
    bought = {books.uuid_of(answer.headers["x-request-id"]) for answer in answers if answer.status == 200}
    assert charged == dict.fromkeys(bought, COST)
    books.prove(site, customer, credit=credit, spent=100 * COST)


async def test_20_equal_requests_under_one_idempotency_key_are_one_call_and_one_charge(
    site: Installation, caller: Caller, upstream: Upstream
) -> None:
    credit = 10 * COST
    customer = site.clerk.organization(name="idem", credit_nanos=credit)
    other = site.clerk.organization(name="idem-other", credit_nanos=credit)
    prompt = "m-idem-1 [[pace=300]]"
    answers = await asyncio.gather(*(caller.chat(customer["secret"], prompt, idempotency_key="k-1") for _ in range(20)))
    assert [answer.status for answer in answers] == [200] * 20
    assert all(answer.body == answers[0].body for answer in answers)
    assert len(upstream.calls_of("m-idem-1")) == 1
    assert Counter(answer.headers.get("idempotent-replayed") for answer in answers) == {None: 1, "true": 19}

    different = await caller.chat(customer["secret"], "m-idem-2", idempotency_key="k-1")
    assert (different.status, different.headers["x-should-retry"]) == (409, "false")
    assert upstream.calls_of("m-idem-2") == []

    elsewhere = await caller.chat(other["secret"], "m-idem-3", idempotency_key="k-1")
    assert elsewhere.status == 200
    assert elsewhere.body["id"] == "m-idem-3"
    books.prove(site, customer, credit=credit, spent=COST)
    books.prove(site, other, credit=credit, spent=COST)


async def test_a_request_that_failed_without_a_charge_frees_its_idempotency_key(
    site: Installation, caller: Caller, upstream: Upstream
) -> None:
    customer = site.clerk.organization(name="idem-free", credit_nanos=10 * COST)
    refused = await caller.chat(customer["secret"], "m-free-1", tokens=TOKENS * 100, idempotency_key="k-1")
    assert refused.status == 429
    accepted = await caller.chat(customer["secret"], "m-free-2", idempotency_key="k-1")
    assert accepted.status == 200
    books.prove(site, customer, credit=10 * COST, spent=COST)


async def test_a_revoked_key_is_refused_by_every_worker_within_a_second(
    site: Installation, caller: Caller, two_workers: Service
) -> None:
    assert len(two_workers.workers()) == 2
    credit = 1_000 * COST
    customer = site.clerk.organization(name="revoke", credit_nanos=credit)
    kept = site.clerk.issue_key(organization_id=customer["id"])
    secret = customer["secret"]
    warm = await asyncio.gather(*(caller.chat(secret, "m-warm [[pace=50]]") for _ in range(40)))
    assert {answer.status for answer in warm} == {200}

    site.clerk.revoke_key(key_id=customer["key_id"])
    await asyncio.sleep(1.0)
    started = time.monotonic()
    refused = await asyncio.gather(*(caller.chat(secret, "m-late") for _ in range(60)))
    assert {answer.status for answer in refused} == {401}
    assert {answer.body["error"]["code"] for answer in refused} == {"invalid_api_key"}
    assert time.monotonic() - started < 10
    assert (await caller.chat(kept["secret"], "m-kept")).status == 200
    books.prove(site, customer, credit=credit, spent=41 * COST)


async def test_a_stream_of_a_revoked_key_ends_within_seconds_and_is_charged_for_what_it_made(
    site: Installation, caller: Caller, upstream: Upstream
) -> None:
    credit = 100_000 * OUTPUT
    customer = site.clerk.organization(name="revoke-stream", credit_nanos=credit)
    body = {
        "model": "exact",
        "max_tokens": 2_000,
        "stream": True,
        "messages": [{"role": "user", "content": "m-endless [[pace=20]]"}],
    }
    headers = {"authorization": f"Bearer {customer['secret']}"}
    seen = b""
    async with caller.session.post(f"{caller.base_url}/v1/chat/completions", json=body, headers=headers) as answer:
        request_id = answer.headers["x-request-id"]
        started = time.monotonic()
        async for piece in answer.content.iter_any():
            if not seen:
                await asyncio.to_thread(site.clerk.revoke_key, key_id=customer["key_id"])
            seen += piece
    assert time.monotonic() - started < 12
    assert b"invalid_api_key" in seen
    assert b"[DONE]" not in seen
    (row,) = books.usage_of(site, request_id)
    words = seen.count(b'"word "')
    assert row["estimated"]
    assert words * OUTPUT * 0.9 <= row["cost_nanos"] <= row["hold_nanos"]
    books.prove(site, customer, credit=credit, spent=row["cost_nanos"])
