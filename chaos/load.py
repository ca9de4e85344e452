"""Mixed load from a seed: plain, streamed, other endpoints, clients that leave, repeated keys, little credit."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from chaos.ground import MODEL, Customer, model_of
from config.tests import storm
from config.tests.processes import Service
from config.tests.scripts import SCRIPTS

CHAT, EMBEDDINGS, MESSAGES = "/v1/chat/completions", "/v1/embeddings", "/v1/messages"
REPEATED_FOR_S = 60.0
# Bombs that cost the load generator more than the gateway; config/tests/test_chaos_upstreams.py throws them.
HELL = sorted(set(SCRIPTS) - {"pace", "gzip_bomb", "long_line"})


@dataclass(frozen=True)
class Kind:
    """A sort of request, and how often it comes."""

    name: str
    weight: int
    path: str = CHAT
    stream: bool = False
    customer: str = "rich"

    @property
    def ending(self) -> bytes:
        return b"event: message_stop" if self.path == MESSAGES else b"data: [DONE]"

    def price(self, tokens: int) -> int:
        return 10 * storm.INPUT if self.path == EMBEDDINGS else storm.price(tokens)


KINDS = [
    Kind("plain", 20),
    Kind("streamed", 30, stream=True),
    Kind("embeddings", 8, path=EMBEDDINGS),
    Kind("message", 5, path=MESSAGES),
    Kind("message streamed", 5, path=MESSAGES, stream=True),
    Kind("hang-up", 5),
    Kind("hang-up streamed", 7, stream=True),
    Kind("repeated", 6),
    Kind("repeated streamed", 4, stream=True),
    Kind("poor", 3, customer="poor"),
    Kind("poor streamed", 3, customer="poor", stream=True),
    Kind("capped", 3, customer="capped"),
    Kind("capped streamed", 3, customer="capped", stream=True),
]
HELLISH = [Kind("hell", 1, customer="hell"), Kind("hell streamed", 1, customer="hell", stream=True)]


@dataclass
class Asked(storm.Seen):
    """One request as its client knows it."""

    kind: Kind = KINDS[0]
    port: int = 0
    started_at: float = 0.0
    has_left: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether it came to no end, though client and upstream did their part. A 503 is an answer."""
        return self.status in {0, 200} and not (self.is_whole or self.has_left or self.kind.customer == "hell")


@dataclass
class Load(storm.Storm):
    """`webs` is the balancer's list, to be replaced whole. `hell` is the share of requests to an upstream from hell."""

    webs: list[Service] = field(default_factory=list)
    customers: dict[str, Customer] = field(default_factory=dict)
    hell: float = 0.05
    check_every_s: float = 0.3
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def asked(self) -> list[Asked]:
        """Every request so far."""
        with self._lock:
            return [seen for seen in self.seen if isinstance(seen, Asked)]

    def leave(self) -> None:
        """Every client that waits for an answer hangs up."""
        self._loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        for asked, task in list(self._running.values()):
            _hang_up(asked, task)

    async def _blow(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._running: dict[int, tuple[Asked, asyncio.Task[None]]] = {}
        await super()._blow()

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        chance = random.Random(f"{self.seed}-{number}")
        turn = 0
        while not self._over.is_set():
            turn += 1
            marker = f"m-{self.seed}-{number}-{turn}"
            tokens, pace = chance.randint(1, 60), chance.choice((0, 0, 1, 5, 15, 100))
            if chance.random() < self.hell:
                kind, script = chance.choice(HELLISH), chance.choice(HELL)
            else:
                (kind,), script = chance.choices(KINDS, [kind.weight for kind in KINDS]), f"pace={pace}"
            for body, headers in self._tries(kind, marker, script, tokens):
                if await self._try(session, kind, marker, tokens, body, headers, chance):
                    break
            await asyncio.sleep(chance.random() * 0.05)

    def _tries(
        self, kind: Kind, marker: str, script: str, tokens: int
    ) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
        """The request, once or, with an Idempotency-Key, again and again for a while."""
        prompt = f"{marker} [[{script}]]"
        body: dict[str, Any] = {"model": model_of(script) if kind.customer == "hell" else MODEL}
        if kind.path == EMBEDDINGS:
            body["input"] = prompt
        else:
            body |= {"max_tokens": tokens, "stream": kind.stream, "messages": [{"role": "user", "content": prompt}]}
        headers = {"authorization": f"Bearer {self.customers[kind.customer].secret}"}
        if not kind.name.startswith("repeated"):
            yield body, headers
            return
        deadline = time.monotonic() + REPEATED_FOR_S
        while time.monotonic() < deadline and not self._over.is_set():
            yield body, headers | {"idempotency-key": marker}

    async def _try(
        self,
        session: aiohttp.ClientSession,
        kind: Kind,
        marker: str,
        tokens: int,
        body: dict[str, Any],
        headers: dict[str, str],
        chance: random.Random,
    ) -> bool:
        """Ask once; whether there is no sense in asking again."""
        web = chance.choice(self.webs)
        asked = Asked(marker, tokens, kind.stream, kind=kind, port=web.port, started_at=time.monotonic())
        with self._lock:
            self.seen.append(asked)
        request = storm.send(session, asked, f"{web.url}{kind.path}", body, headers, ending=kind.ending)
        task = asyncio.create_task(request)
        if kind.name.startswith("hang-up"):
            asyncio.get_running_loop().call_later(chance.random(), _hang_up, asked, task)
        self._running[id(asked)] = asked, task
        try:
            await task
        except (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError):
            await asyncio.sleep(0.3)
        except asyncio.CancelledError:
            if not asked.has_left:
                raise
        finally:
            del self._running[id(asked)]
            asked.finished_at = time.monotonic()
        if asked.status >= 500:
            await asyncio.sleep(0.1)
        return asked.is_whole or (400 <= asked.status < 500)


def _hang_up(asked: Asked, task: "asyncio.Task[None]") -> None:
    if not task.done():
        asked.has_left = True
        task.cancel()
