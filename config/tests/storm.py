"""Load from a seed, on a thread of its own, by clients who write down exactly what they saw."""

import asyncio
import json
import random
import threading
import time
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import psycopg

from config.tests import books
from config.tests.processes import Installation, Service, wait_for
from config.tests.scripted import Upstream

INPUT, OUTPUT = 100, 1_000
MODEL = "storm"
CREDIT = 10_000_000_000
# A worker writes that it lives every 5 s; silent for longer than this it counts as dead in these tests.
DEAD_AFTER_S = 7.0


def price(tokens: int) -> int:
    """What an answer of so many tokens costs; the scripted upstream counts 10 prompt tokens."""
    return 10 * INPUT + tokens * OUTPUT


@dataclass
class Seen:
    """One request as its client knows it. `is_whole`: a complete JSON answer, or `[DONE]`."""

    marker: str
    tokens: int
    stream: bool
    status: int = 0
    request_id: str = ""
    retry_after: str = ""
    is_whole: bool = False
    is_replay: bool = False
    finished_at: float = 0.0


@dataclass
class Storm:
    """`clients` connections, each asking again and again until the storm is over; a checker watches the books."""

    site: Installation
    web: Service
    secret: str
    seed: int
    clients: int = 16
    seen: list[Seen] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    checks: int = 0
    check_every_s: float = 0.1

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=asyncio.run, args=(self._blow(),), name="storm", daemon=True),
            threading.Thread(target=self._check, name="checker", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop asking; every request that runs comes to its end first."""
        self._over.set()
        for thread in self._threads:
            thread.join(40)
            assert not thread.is_alive(), f"{thread.name} hangs"

    def wait_for_answers(self, count: int, *, timeout_s: float = 45.0) -> None:
        """Until `count` more answers were seen whole."""
        target = self.whole_count() + count
        deadline = time.monotonic() + timeout_s
        while self.whole_count() < target:
            assert time.monotonic() < deadline, f"only {self.whole_count()} of {target} answers came"
            time.sleep(0.02)

    def whole_count(self) -> int:
        return sum(1 for seen in self.seen if seen.is_whole)

    async def _blow(self) -> None:
        timeout = aiohttp.ClientTimeout(total=25)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            await asyncio.gather(*(self._client(session, number) for number in range(self.clients)))

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        chance = random.Random(f"{self.seed}-{number}")
        turn = 0
        while not self._over.is_set():
            turn += 1
            seen = Seen(f"m-{self.seed}-{number}-{turn}", chance.randint(1, 40), chance.random() < 0.5)
            self.seen.append(seen)
            try:
                await self._ask(session, seen, pace=chance.choice((0, 1, 5, 15)))
            except (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError):
                await asyncio.sleep(0.05)
            if seen.status == 503:
                await asyncio.sleep(0.1)
            seen.finished_at = time.monotonic()
            await asyncio.sleep(chance.random() * 0.02)

    async def _ask(self, session: aiohttp.ClientSession, seen: Seen, *, pace: int) -> None:
        body: dict[str, Any] = {
            "model": MODEL,
            "max_tokens": seen.tokens,
            "messages": [{"role": "user", "content": f"{seen.marker} [[pace={pace}]]"}],
            "stream": seen.stream,
        }
        headers = {"authorization": f"Bearer {self.secret}"}
        await send(session, seen, f"{self.web.url}/v1/chat/completions", body, headers)

    def _check(self) -> None:
        while not self._over.is_set():
            try:
                self.broken += books.broken_rules(self.site)
                self.checks += 1
            except psycopg.OperationalError:
                pass  # PostgreSQL is being restarted
            time.sleep(self.check_every_s)


async def send(
    session: aiohttp.ClientSession,
    seen: Seen,
    url: str,
    body: dict[str, Any] | AsyncIterable[bytes],
    headers: dict[str, str],
    *,
    ending: bytes = b"data: [DONE]",
) -> None:
    """Ask, with JSON or with pieces of a body, and write down what came. A stream is whole when its line `ending` was
    seen."""
    content = {"json" if isinstance(body, dict) else "data": body}
    async with session.post(url, headers=headers, **content) as answer:  # type: ignore[arg-type]
        seen.status = answer.status
        seen.request_id = answer.headers.get("x-request-id", "")
        seen.retry_after = answer.headers.get("retry-after", "")
        seen.is_replay = "idempotent-replayed" in answer.headers
        if answer.status == 200 and seen.stream:
            async for line in answer.content:
                if line.strip() == ending:
                    seen.is_whole = True
        else:
            json.loads(await answer.read())
            seen.is_whole = answer.status == 200


def sweep(site: Installation) -> None:
    """What the reaper does within minutes, in seconds: holds of dead workers end, those of the living are captured."""

    def is_swept() -> bool:
        if books.holds(site):
            site.clerk.reap(dead_after_s=DEAD_AFTER_S)
        return books.holds(site) == 0

    wait_for(is_swept, timeout_s=DEAD_AFTER_S + 10, what="every hold is swept", every_s=0.5)


def prove(storm: Storm, customer: dict[str, Any], upstream: Upstream, *, credit: int) -> dict[str, Any]:
    """Everything that must be true after a storm; returns some figures for the record."""
    rows = books.usage(storm.site, customer["id"])
    by_id = {row["request_id"]: row for row in rows}
    assert len(by_id) == len(rows), "a request has two usage records"
    called = {call.marker for call in upstream.calls}
    for seen in storm.seen:
        row = by_id.get(books.uuid_of(seen.request_id)) if seen.request_id else None
        if seen.is_whole:
            assert row is not None, f"{seen} was seen whole and not charged"
            assert (row["cost_nanos"], row["outcome"]) == (price(seen.tokens), "completed"), seen
            assert row["upstream_request_id"] == seen.marker
        elif seen.marker not in called:
            assert row is None or row["cost_nanos"] == 0, f"{seen} never reached the upstream and was charged"
        elif row is not None:
            assert 0 <= row["cost_nanos"] <= max(row["hold_nanos"], price(seen.tokens)), seen
    charged = [row for row in rows if row["cost_nanos"]]
    assert {row["upstream_request_id"] for row in charged if row["outcome"] != "interrupted"} <= called
    markers = [row["upstream_request_id"] for row in charged if row["upstream_request_id"]]
    assert len(markers) == len(set(markers)), "an upstream call was charged twice"
    assert storm.broken == []
    assert storm.checks > 5
    books.prove(storm.site, customer, credit=credit, spent=sum(row["cost_nanos"] for row in rows))
    outcomes: dict[str, int] = {}
    for row in rows:
        outcomes[row["outcome"]] = outcomes.get(row["outcome"], 0) + 1
    return {"asked": len(storm.seen), "whole": storm.whole_count(), "called": len(called), "outcomes": outcomes}
