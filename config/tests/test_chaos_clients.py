"""Clients that misbehave on a raw socket (F5): never HTML, a hang or a wrong charge, and others are served."""

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from config.tests import books
from config.tests.processes import Installation, Service, wait_for
from config.tests.scripted import Upstream
from config.tests.test_chaos_upstreams import MAX_RSS_BYTES, rss_bytes

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("clients")]

INPUT, OUTPUT, TOKENS = 100, 1_000, 16
FULL = 10 * INPUT + TOKENS * OUTPUT
CREDIT = 10_000 * FULL
ANSWER_TIMEOUT_S = 15.0


@dataclass
class Raw:
    """One connection, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, timeout_s: float = ANSWER_TIMEOUT_S) -> bytes:
        """Everything until the server closes or falls silent for a moment after a whole answer."""
        received = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(timeout_s):
                while not is_whole(received):
                    piece = await self.reader.read(65_536)
                    if not piece:
                        break
                    received += piece
        return received

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def leave(self, how: str) -> None:
        """`close` with FIN, or `reset` with RST."""
        if how == "close":
            await self.close()
            return
        sock: socket.socket = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def is_whole(received: bytes) -> bool:
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return False
    lowered = head.lower()
    if b"transfer-encoding: chunked" in lowered:
        return body.endswith(b"0\r\n\r\n")
    length = lowered.partition(b"content-length:")[2].partition(b"\r\n")[0].strip()
    return bool(length) and len(body) >= int(length)


@dataclass
class Gateway:
    """Where to connect and as whom."""

    site: Installation
    web: Service
    record: dict[str, Any]
    opened: list[Raw] = field(default_factory=list)

    async def connect(self) -> Raw:
        raw = Raw(*await asyncio.open_connection("127.0.0.1", self.web.port))
        self.opened.append(raw)
        return raw

    def head(self, *headers: str, length: int | None = None) -> bytes:
        lines = [
            "POST /v1/chat/completions HTTP/1.1",
            f"Host: 127.0.0.1:{self.web.port}",
            f"Authorization: Bearer {self.record['secret']}",
            "Content-Type: application/json",
            *([f"Content-Length: {length}"] if length is not None else []),
            *headers,
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def body(self, prompt: str, *, stream: bool = False, tokens: int = TOKENS) -> bytes:
        messages = [{"role": "user", "content": prompt}]
        return json.dumps({"model": "raw", "max_tokens": tokens, "messages": messages, "stream": stream}).encode()

    async def ask(self, prompt: str = "hello") -> float:
        """A good client's call; how long it took."""
        started = time.monotonic()
        raw = await self.connect()
        body = self.body(prompt)
        await raw.send(self.head(length=len(body)) + body)
        received = await raw.answer()
        assert status(received) == 200, received[:500]
        await raw.close()
        return time.monotonic() - started

    def rows(self) -> list[dict[str, Any]]:
        return books.usage(self.site, self.record["id"])

    def prove(self, spent: int) -> None:
        books.prove(self.site, self.record, credit=CREDIT, spent=spent)


def status(received: bytes) -> int:
    assert received.startswith(b"HTTP/1.1 "), received[:200]
    return int(received[9:12])


def assert_refused(received: bytes, *statuses: int, code: str = "") -> None:
    """An error of one of these statuses, never HTML; with `code`, in OpenAI's shape."""
    assert status(received) in statuses, received[:300]
    assert b"<html" not in received.lower()
    assert b"<!doctype" not in received.lower()
    if code:
        assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["code"] == code


@pytest.fixture(scope="module")
def raw_model(installation: Installation, upstream: Upstream) -> None:
    prices = {"input": INPUT, "output": OUTPUT}
    installation.clerk.model(name="raw", base_url=upstream.base_url, upstream_name="m", prices=prices)


@pytest.fixture
async def gateway(site: Installation, web: Service, raw_model: None) -> AsyncIterator[Gateway]:
    opened = Gateway(site, web, site.clerk.organization(name="raw", credit_nanos=CREDIT))
    yield opened
    for raw in opened.opened:
        await raw.close()


async def test_a_body_that_comes_in_chunks_of_one_byte_is_served(gateway: Gateway) -> None:
    raw = await gateway.connect()
    body = gateway.body("m-drip")
    await raw.send(gateway.head("Transfer-Encoding: chunked"))
    for number in range(len(body)):
        await raw.send(b"1\r\n" + body[number : number + 1] + b"\r\n")
    await raw.send(b"0\r\n\r\n")
    assert status(await raw.answer()) == 200
    gateway.prove(FULL)


async def test_a_declared_body_of_100_mb_is_refused_before_it_is_read(gateway: Gateway, upstream: Upstream) -> None:
    raw = await gateway.connect()
    started = time.monotonic()
    await raw.send(gateway.head(length=100 * 1024 * 1024) + b'{"model":"raw","m-huge":"')
    assert_refused(await raw.answer(), 413, code="request_too_large")
    assert time.monotonic() - started < 5
    assert upstream.calls_of("m-huge") == []
    gateway.prove(0)


async def test_an_undeclared_body_of_100_mb_is_refused_in_bounded_memory(gateway: Gateway) -> None:
    raw = await gateway.connect()
    await raw.send(gateway.head("Transfer-Encoding: chunked"))
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            await raw.send(chunk)
        await raw.send(b"0\r\n\r\n")
    received = await raw.answer()
    # The server may close before we have stopped writing; then the reset has eaten its answer.
    if received:
        assert_refused(received, 413, code="request_too_large")
    assert rss_bytes(gateway.web.pid) < MAX_RSS_BYTES
    assert await gateway.ask() < 2
    gateway.prove(FULL)


async def test_two_content_lengths_are_refused(gateway: Gateway) -> None:
    raw = await gateway.connect()
    body = gateway.body("m-twice")
    await raw.send(gateway.head(f"Content-Length: {len(body)}", f"Content-Length: {len(body) - 5}") + body)
    assert_refused(await raw.answer(), 400)
    gateway.prove(0)


async def test_a_length_and_chunks_at_once_do_not_smuggle_a_request(gateway: Gateway, upstream: Upstream) -> None:
    raw = await gateway.connect()
    hidden = gateway.body("m-smuggled")
    smuggled = gateway.head(length=len(hidden)) + hidden
    await raw.send(gateway.head("Transfer-Encoding: chunked", length=4 + len(smuggled)) + b"0\r\n\r\n" + smuggled)
    assert_refused(await raw.answer(), 400)
    await asyncio.sleep(0.3)
    assert upstream.calls_of("m-smuggled") == []
    gateway.prove(0)


async def test_ten_thousand_headers_neither_hang_nor_hurt(gateway: Gateway) -> None:
    raw = await gateway.connect()
    body = gateway.body("m-headers")
    noise = [f"X-Noise-{number}: {number}" for number in range(10_000)]
    started = time.monotonic()
    with contextlib.suppress(ConnectionError):
        await raw.send(gateway.head(*noise, length=len(body)) + body)
    received = await raw.answer()
    assert time.monotonic() - started < 10
    accepted = bool(received) and status(received) == 200
    if received and not accepted:
        assert_refused(received, 400, 431)
    gateway.prove(FULL if accepted else 0)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"model": "\xff"}', b'"' * 50_000, b"[" * 100_000, b'{"model":"raw","n":1e400}'],
    ids=["empty", "cut", "list", "null", "not utf-8", "quotes", "deep", "infinite"],
)
async def test_a_body_that_is_no_object_is_400_and_never_reaches_the_upstream(gateway: Gateway, body: bytes) -> None:
    raw = await gateway.connect()
    await raw.send(gateway.head(length=len(body)) + body)
    assert_refused(await raw.answer(), 400, code="invalid_json" if body != b'{"model":"raw","n":1e400}' else "")
    gateway.prove(0)


async def test_bytes_that_are_no_http_get_no_html(gateway: Gateway) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", b"POST /v1/chat/completions HTTP/9.9\r\n\r\n"):
        raw = await gateway.connect()
        with contextlib.suppress(ConnectionError):
            await raw.send(nonsense + b"\r\n\r\n")
        received = await raw.answer(timeout_s=3)
        if received:
            assert_refused(received, 400, 505)
    gateway.prove(0)


async def test_200_slow_clients_do_not_slow_a_good_one(gateway: Gateway) -> None:
    slow = [await gateway.connect() for _ in range(200)]
    body = gateway.body("m-slow")
    for number, raw in enumerate(slow):
        head = gateway.head(length=len(body))
        # Half stop within their headers, half within their body.
        await raw.send(head[: 10 + number] if number % 2 else head + body[: number % 50])
    times = []
    for round_ in range(30):
        for raw in slow[round_::10]:
            with contextlib.suppress(ConnectionError):
                await raw.send(b"x")
        times.append(await gateway.ask())
    assert sorted(times)[28] < 1
    gateway.prove(30 * FULL)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stage", ["connected", "in the headers", "after the headers", "in the body"])
async def test_a_client_that_leaves_before_its_request_is_whole_pays_nothing(
    gateway: Gateway, upstream: Upstream, stage: str, how: str
) -> None:
    raw = await gateway.connect()
    body = gateway.body("m-early")
    head = gateway.head(length=len(body))
    sent = {"connected": b"", "in the headers": head[:60], "after the headers": head, "in the body": head + body[:-5]}
    await raw.send(sent[stage])
    await asyncio.sleep(0.05)
    await raw.leave(how)
    await asyncio.sleep(0.1)
    assert await gateway.ask("m-next") < 2
    assert upstream.calls_of("m-early") == []
    gateway.prove(FULL)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("after", ["request", "headers", "words"])
async def test_a_client_that_leaves_is_drained_and_pays_what_the_upstream_says(
    gateway: Gateway, upstream: Upstream, after: str, stream: bool, how: str
) -> None:
    """It left after its request, after the answer's headers, or after some of its words: the usage is the truth."""
    marker = f"m-left-{after}-{stream}-{how}".lower()
    raw = await gateway.connect()
    pace = 40 if stream else 500
    body = gateway.body(f"{marker} [[pace={pace}]]", stream=stream)
    await raw.send(gateway.head(length=len(body)) + body)
    await asyncio.to_thread(wait_for, lambda: upstream.calls_of(marker), timeout_s=5, what="the upstream is called")
    received = b""
    wanted = {"request": b"", "headers": b"\r\n\r\n", "words": b"word"}[after]
    while wanted not in received:
        piece = await raw.reader.read(4096)
        assert piece
        received += piece
    await raw.leave(how)

    rows = await asyncio.to_thread(wait_for, gateway.rows, timeout_s=8, what="the request is settled")
    assert [row["cost_nanos"] for row in rows] == [FULL]
    assert rows[0]["outcome"] in {"client_closed", "completed"}
    assert not rows[0]["estimated"]
    assert len(upstream.calls_of(marker)) == 1
    gateway.prove(FULL)


async def test_a_client_that_never_reads_is_dropped_and_pays_what_was_made(
    gateway: Gateway, upstream: Upstream
) -> None:
    """It asks for a long stream and reads nothing: our memory stays bounded, its charge is the upstream's usage."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", gateway.web.port))
    try:
        body = gateway.body("m-unread", stream=True, tokens=60_000)
        sock.sendall(gateway.head(length=len(body)) + body)
        rows = await asyncio.to_thread(wait_for, gateway.rows, timeout_s=20, what="the request is settled")
    finally:
        sock.close()
    (row,) = rows
    assert 0 < row["cost_nanos"] <= 10 * INPUT + 60_000 * OUTPUT
    assert row["outcome"] in {"client_closed", "completed"}
    assert rss_bytes(gateway.web.pid) < MAX_RSS_BYTES
    gateway.prove(row["cost_nanos"])
