"""A request that waits for the first one with its Idempotency-Key, and what ends the waiting."""

import asyncio
from typing import Any
from uuid import uuid4

import orjson
import pytest

from billing.teller import Claim
from proxy.gateway import idempotency
from proxy.gateway.wire import ClientGone, Request
from proxy.tests.kit import KEY, Kit, Script, answer, chat, usage


async def test_a_worker_that_stops_waits_no_longer_and_lets_the_client_ask_elsewhere() -> None:
    kit = Kit(Script([answer(usage())]))
    name, body = f"{KEY.organization_id}:a", chat()
    kit.teller.claims[name] = Claim("running", uuid4(), None)  # of a worker that may be dead
    kit.teller.digests[name] = idempotency.body_digest("/v1/chat/completions", orjson.dumps(body))
    waiting = asyncio.create_task(kit.call(body=body, headers={"idempotency-key": "a"}))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    kit.gateway.stop_waiting()
    async with asyncio.timeout(20):
        answered = await waiting
    assert answered.status == 503
    assert answered.headers["retry-after"]
    assert kit.teller.captures == kit.client.requests == []
    running = await kit.call(body=body, headers={"idempotency-key": "b"})
    assert running.status == 200


async def test_nobody_waits_for_a_client_that_has_gone() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    request = Request({"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}, receive)
    pause = idempotency.pausing(request, is_closing=lambda: False)
    with pytest.raises(ClientGone):
        await pause(20)
