"""The gateway on a real socket before the simulated provider on another: for clients that this project did not write.

The teller is the one in memory of `proxy/tests/kit.py`; everything else is the product's.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from openai import OpenAI

from billing.rate_json import parse
from billing.teller import Capture
from proxy.gateway.admission import Cashier
from proxy.gateway.app import Gateway
from proxy.gateway.attempts import Attempts, Deadlines
from proxy.gateway.concurrency import Concurrency
from proxy.gateway.http_client import HttpClient
from proxy.gateway.limits import Limiter
from proxy.gateway.options import Options
from proxy.gateway.owned import Keeper
from proxy.gateway.passthrough import Passthrough
from proxy.gateway.realtime.door import Door, DoorOptions
from proxy.gateway.realtime.upstream import AiohttpSockets
from proxy.gateway.relay import Relay
from proxy.gateway.routing import Router
from proxy.gateway.snapshots import Catalog, Deployment, Route
from proxy.gateway.transcripts import Transcript, Transcripts, text_of
from proxy.tests.kit import SECRET, TestKeyring, TestObjects, TestSecrets, TestTeller
from sandbox.processes import free_port
from sandbox.provider.app import Provider, server

PROVIDER_KEY = "sandbox-key-for-tests"
# USD per million tokens, or for one unit; as an operator writes them.
RATES: dict[str, dict[str, Any]] = {
    "gpt-4o-mini": {"input": "1", "cached_input": "0.5", "output": "2", "units": {"web_search_call": "0.01"}},
    "omni-moderation-latest": {"input": "0", "output": "0"},
    "gpt-image-2": {"input": "5", "cached_input": "1.25", "image_input": "8", "image_output": "30"},
    "flux": {"units": {"image": "0.02"}},
    "tiled": {"units": {"image": "0.04", "tile": "0.007", "step": "0.001"}},
    "gpt-4o-mini-transcribe": {"input": "1.25", "audio_input": "3", "output": "5"},
    "whisper-1": {"units": {"minute": "0.006"}},
    "tts-1": {"units": {"million_characters": "15"}},
    "gpt-4o-mini-tts": {"input": "0.6", "audio_output": "12"},
    "gpt-realtime-2.1": {
        "input": "4",
        "cached_input": "0.4",
        "output": "24",
        "audio_input": "32",
        "cached_audio_input": "0.5",
        "audio_output": "64",
    },
}
ENDPOINTS = {"gpt-realtime-2.1": frozenset({"/v1/realtime"})}


@dataclass
class Surface:
    """A running gateway, and what was charged."""

    sdk: OpenAI
    url: str
    teller: TestTeller
    provider: Provider
    keyring: TestKeyring
    door: Door
    words: list[Transcript]

    def capture(self) -> Capture:
        """The last request's; no hold is left."""
        assert self.teller.holds == {}
        return self.teller.captures[-1]

    def said(self, count: int) -> list[tuple[Any, str]]:
        """What was taken down, once there is so much of it: what was asked, and what was answered."""
        until = time.monotonic() + 20
        while len(self.words) < count and time.monotonic() < until:
            time.sleep(0.02)
        return [(json.loads(one.request), text_of(one.answer)) for one in self.words]


@contextmanager
def running(*, discards: bool = False, upstream_url: str = "") -> Iterator[Surface]:
    """A gateway whose models are all served by one simulated provider; by one that throws away what it gets; or by
    the server at `upstream_url`.
    """
    provider, upstream_port = Provider(PROVIDER_KEY), free_port()
    discarding = uvicorn.Config(_discard, port=upstream_port, log_level="critical", ws="none", lifespan="off")
    upstream = uvicorn.Server(discarding) if discards else server(provider, upstream_port)
    with _serving(upstream):
        teller = TestTeller()
        app = _App(teller, _catalog(upstream_url or f"http://127.0.0.1:{upstream_port}/v1"))
        config = uvicorn.Config(
            app, port=(port := free_port()), lifespan="on", log_level="critical", ws="websockets-sansio"
        )
        config.timeout_graceful_shutdown = 2
        with _serving(uvicorn.Server(config)):
            url = f"http://127.0.0.1:{port}/v1"
            with OpenAI(base_url=url, api_key=SECRET, timeout=60, max_retries=0) as sdk:
                assert app.door is not None
                yield Surface(sdk, url, teller, provider, app.keyring, app.door, app.words)


async def _discard(scope: Any, receive: Any, send: Any) -> None:
    """Answer any upload with one image."""
    while (await receive()).get("more_body"):
        pass
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
    await send(head)
    await send({"type": "http.response.body", "body": b'{"created":1,"data":[{"b64_json":"AA=="}]}'})


class _App:
    """The gateway as an ASGI application that starts and stops with its server."""

    def __init__(self, teller: TestTeller, catalog: Catalog) -> None:
        self._teller = teller
        self._catalog = catalog
        self._gateway: Gateway | None = None
        self.door: Door | None = None
        self.keyring = TestKeyring()
        self.words: list[Transcript] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            assert self._gateway is not None
            await self._gateway(scope, receive, send)
            return
        if scope["type"] == "websocket":
            assert self.door is not None
            await self.door(scope, receive, send)
            return
        await receive()
        transcripts = Transcripts(self)
        client, sockets = self._start(transcripts)
        keeping = asyncio.create_task(transcripts.run())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        keeping.cancel()
        await sockets.close()
        await client.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def keep(self, transcripts: list[Transcript]) -> None:
        self.words += transcripts

    def _start(self, transcripts: Transcripts) -> tuple[HttpClient, AiohttpSockets]:
        client, objects, deadlines, keyring = HttpClient(), TestObjects(), Deadlines(), self.keyring
        sockets, secrets, limiter = AiohttpSockets(max_frame_bytes=2**20), TestSecrets(), Limiter(None)
        cashier = Cashier(self._teller, site_url="https://example.test")
        attempts = Attempts(client=client, router=Router(), deadlines=deadlines)
        relay = Relay(
            attempts=attempts,
            cashier=cashier,
            keyring=keyring,
            deadlines=deadlines,
            objects=objects,
            transcripts=transcripts,
        )
        self.door = Door(
            keyring=keyring,
            client_secrets=secrets,
            catalog=lambda: self._catalog,
            limiter=limiter,
            concurrency=Concurrency(None),
            cashier=cashier,
            settle=relay.settle,
            router=Router(),
            sockets=sockets,
            options=DoorOptions(site_url="https://example.test", default_model="gpt-realtime-2.1"),
            transcripts=transcripts,
        )
        self._gateway = Gateway(
            keyring=keyring,
            catalog=lambda: self._catalog,
            limiter=limiter,
            concurrency=Concurrency(None),
            cashier=cashier,
            relay=relay,
            client_secrets=secrets,
            keeper=Keeper(objects=objects, client=client, timeout_s=20),
            passthrough=Passthrough(client=client, objects=objects, timeout_s=20),
            options=Options(site_url="https://example.test", realtime_model="gpt-realtime-2.1"),
        )
        return client, sockets


def _catalog(url: str) -> Catalog:
    routes = {}
    for number, (name, rates) in enumerate(RATES.items(), 1):
        deployment = Deployment(
            id=number, provider="sandbox", kind="sandbox", base_url=url, upstream_name=name, api_key=PROVIDER_KEY
        )
        rate = parse(name, rates, version=number)
        routes[name] = Route(
            model=name,
            owned_by="us",
            created=1,
            rate=rate,
            deployments=(deployment,),
            endpoints=ENDPOINTS.get(name, frozenset()),
        )
    return Catalog(routes)


@contextmanager
def _serving(one: uvicorn.Server) -> Iterator[None]:
    thread = threading.Thread(target=one.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not one.started and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        yield
    finally:
        one.should_exit = True
        thread.join(10)
