"""Mixed load from a seed: plain, streamed, other endpoints, uploads, sessions, clients that leave, repeated keys."""

import asyncio
import json
import random
import threading
import time
from collections.abc import AsyncIterable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp

from chaos import uploads
from chaos.asked import EMBEDDINGS, HELL, HELLISH, KINDS, REALTIME, SPOKEN_HELL, TRANSCRIPTIONS, Asked, Kind, Spoken
from chaos.ground import MODEL, SPOKEN_MODEL, Customer, model_of
from chaos.talks import Talk
from config.tests import storm
from config.tests.processes import Service

REPEATED_FOR_S = 60.0
Body = dict[str, Any] | AsyncIterable[bytes]


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
            kind, script = self._draw(chance, pace)
            if kind.path == REALTIME:
                await self._talk(session, kind, script, chance)
            else:
                await self._ask_again(session, Asked(marker, tokens, kind.stream, kind=kind), script, chance)
            await asyncio.sleep(chance.random() * 0.05)

    def _draw(self, chance: random.Random, pace: int) -> tuple[Kind, str]:
        """What to ask for, and what the upstream shall do to it."""
        is_hell = chance.random() < self.hell
        kinds = HELLISH if is_hell else KINDS
        (kind,) = chance.choices(kinds, [kind.weight for kind in kinds])
        if kind.path == REALTIME:
            return kind, f"slow={pace}ms" + (f"; {chance.choice(SPOKEN_HELL)}" if is_hell else "")
        return kind, chance.choice(HELL) if is_hell else f"pace={pace}"

    async def _ask_again(
        self, session: aiohttp.ClientSession, first: Asked, script: str, chance: random.Random
    ) -> None:
        """The request, once or, with an Idempotency-Key, again and again until there is no sense in it any more."""
        for body, headers in self._tries(first, script, chance):
            web = chance.choice(self.webs)
            asked = self._noted(replace(first, port=web.port))
            url = f"{web.url}{asked.kind.path}"
            await self._run(storm.send(session, asked, url, body, headers, ending=asked.kind.ending), asked, chance)
            if asked.is_whole or 400 <= asked.status < 500:
                break

    def _tries(self, asked: Asked, script: str, chance: random.Random) -> Iterator[tuple[Body, dict[str, str]]]:
        """The request, again for as long as it may be repeated."""
        kind, prompt = asked.kind, f"{asked.marker} [[{script}]]"
        headers = self._headers(kind)
        body: dict[str, Any] = {"model": model_of(script) if kind.customer == "hell" else MODEL}
        if kind.path == TRANSCRIPTIONS:
            upload = uploads.upload(MODEL, prompt, asked.tokens, chance)
            headers["content-type"], asked.sha256 = uploads.CONTENT_TYPE, upload.sha256
            pause_s = chance.choice((0.0, 0.02, 0.1))
        elif kind.path == EMBEDDINGS:
            body["input"] = prompt
        else:
            messages = [{"role": "user", "content": prompt}]
            body |= {"max_tokens": asked.tokens, "stream": kind.stream, "messages": messages}
        if kind.is_repeated:
            headers["idempotency-key"] = asked.marker
        deadline = time.monotonic() + REPEATED_FOR_S
        while True:
            yield upload.pieces(pause_s) if kind.path == TRANSCRIPTIONS else body, headers
            if not kind.is_repeated or time.monotonic() > deadline or self._over.is_set():
                return

    async def _talk(self, session: aiohttp.ClientSession, kind: Kind, script: str, chance: random.Random) -> None:
        """A session of some responses, with silence between them."""
        web = chance.choice(self.webs)
        model = model_of(REALTIME) if kind.customer == "hell" else SPOKEN_MODEL
        talk = Talk(session, f"{web.url}{REALTIME}?model={model}", self._headers(kind))
        try:
            for _ in range(chance.randint(1, 4)):
                asked = Spoken("", chance.randint(1, 60), stream=True, kind=kind, port=web.port)
                await self._run(talk.turn(self._noted(asked), script), asked, chance)
                if not asked.is_whole or self._over.is_set():
                    break
                await asyncio.sleep(chance.random())
        finally:
            await talk.close()

    def _headers(self, kind: Kind) -> dict[str, str]:
        return {"authorization": f"Bearer {self.customers[kind.customer].secret}"}

    def _noted[A: Asked](self, asked: A) -> A:
        asked.started_at = time.monotonic()
        with self._lock:
            self.seen.append(asked)
        return asked

    async def _run(self, request: Coroutine[Any, Any, None], asked: Asked, chance: random.Random) -> None:
        """Until it is answered, or its client leaves."""
        task = asyncio.create_task(request)
        if asked.kind.hangs_up:
            asyncio.get_running_loop().call_later(chance.random(), _hang_up, asked, task)
        self._running[id(asked)] = asked, task
        try:
            await task
        except TimeoutError:
            asked.has_left = asked.kind.is_repeated  # it waited for an earlier try, whose worker may be dead
            await asyncio.sleep(0.3)
        except (aiohttp.ClientError, OSError, json.JSONDecodeError):
            await asyncio.sleep(0.3)
        except asyncio.CancelledError:
            if not asked.has_left:
                raise
        finally:
            del self._running[id(asked)]
            asked.finished_at = time.monotonic()
        if asked.status >= 500:
            await asyncio.sleep(0.1)


def _hang_up(asked: Asked, task: "asyncio.Task[None]") -> None:
    if not task.done():
        asked.has_left = True
        task.cancel()
