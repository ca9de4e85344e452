"""The load generator: keep-alive connections on a bare protocol, in a process of its own, one JSON line as its report.

Closed loop: every connection sends its next request as soon as the last answer is whole. Open loop (`--rate`): requests
are due on a fixed timetable whatever the server does, and latency counts from when a request was due. What was due
and has no answer at the end is told as `late`: it is in no quantile.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import resource
import selectors
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

from bench.figures import due_s, quantile, requests_of

HOST = "127.0.0.1"
TAIL_BYTES = 1024  # enough to hold `[DONE]`, the comment with the cost, and the end of a chunked body
BODIES = {
    "json": {"model": "bench", "messages": [{"role": "user", "content": "What is a penny saved?"}], "max_tokens": 64},
}
BODIES["burst"] = BODIES["json"] | {"stream": True}
BODIES["paced"] = BODIES["burst"] | {"user": "paced"}
BODIES["slow"] = BODIES["burst"] | {"user": "slow"}
BODIES["responses"] = {"model": "bench", "input": "What is a penny saved?", "max_output_tokens": 64}
BODIES["embeddings"] = {"model": "bench", "input": "What is a penny saved?"}
BODIES["multipart"] = {"model": "bench-audio"}
STREAMS = frozenset({"burst", "paced", "slow"})
PATHS = {"responses": "/v1/responses", "embeddings": "/v1/embeddings", "multipart": "/v1/audio/transcriptions"}
RECORDING_BYTES = 256 * 1024


@dataclass
class Tally:
    """What one run saw: latencies in seconds, and answers that were not whole or not 200."""

    latencies: list[float] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    late: int = 0


class Connection(asyncio.Protocol):
    """One keep-alive connection; `done` is called after each answer, with nothing in flight."""

    transport: asyncio.Transport

    def __init__(
        self, requests: Iterator[bytes], is_stream: bool, tally: Tally, ready: "deque[Connection] | None"
    ) -> None:
        self.requests, self.is_stream, self.tally, self.ready = requests, is_stream, tally, ready
        self.deadline = 0.0
        self.due = 0.0
        self.finished: asyncio.Event = asyncio.Event()
        self.reset()

    def reset(self) -> None:
        self.buffer, self.missing, self.in_body = b"", 0, False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, due: float) -> None:
        self.due = due
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        if not self.in_body:
            self.buffer += data
            head, separator, data = self.buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            if not head.startswith(b"HTTP/1.1 200"):
                self.fail(head[:200].decode("latin-1"))
                return
            self.in_body, self.buffer = True, b""
            length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0].strip()
            self.missing = int(length) if length else -1
        self.buffer = (self.buffer + data)[-TAIL_BYTES:]
        if self.missing >= 0:
            self.missing -= len(data)
            if self.missing <= 0:
                self.whole()
        elif self.buffer.endswith(b"\r\n0\r\n\r\n"):
            self.whole()

    def whole(self) -> None:
        if self.is_stream and b"data: [DONE]" not in self.buffer:
            self.fail("a stream ended without [DONE]")
            return
        now = time.perf_counter()
        self.tally.latencies.append(now - self.due)
        self.reset()
        if self.ready is not None:
            self.ready.append(self)
        elif now < self.deadline:
            self.ask(now)
        else:
            self.finished.set()

    def fail(self, reason: str) -> None:
        self.tally.bad.append(reason)
        self.finished.set()
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.is_set() and (self.in_body or self.buffer or self.ready is None):
            self.tally.bad.append(f"connection lost: {exc}")
        self.finished.set()


async def closed_loop(options: argparse.Namespace, requests: Iterator[bytes], tally: Tally) -> float:
    """Keep every connection busy (for 0 s: one request each); returns the seconds until the last answer."""
    loop = asyncio.get_running_loop()
    connections = [
        (
            await loop.create_connection(
                lambda: Connection(requests, options.kind in STREAMS, tally, None), HOST, options.port
            )
        )[1]
        for _ in range(options.connections)
    ]
    start = time.perf_counter()
    for connection in connections:
        connection.deadline = start + options.seconds
        connection.ask(time.perf_counter())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(options.seconds + options.patience):
            await asyncio.gather(*(c.finished.wait() for c in connections))
    tally.late = sum(not c.finished.is_set() for c in connections)
    took = time.perf_counter() - start
    for connection in connections:
        connection.transport.close()
    return took


async def open_loop(options: argparse.Namespace, requests: Iterator[bytes], tally: Tally) -> float:
    """Send on the timetable, on whichever connection is free; a request that finds none waits, as its latency shows."""
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []
    ready: deque[Connection] = deque()
    for _ in range(options.connections):
        _, connection = await loop.create_connection(
            lambda: Connection(requests, options.kind in STREAMS, tally, ready), HOST, options.port
        )
        connections.append(connection)
        ready.append(connection)
    total = requests_of(options.rate, options.seconds)
    start = time.perf_counter()
    sent = 0
    while sent < total and not tally.bad:
        now = time.perf_counter()
        if now > start + options.seconds + options.patience:
            break
        while sent < total and ready and start + due_s(sent, options.rate) <= now:
            connection = ready.popleft()
            if connection.finished.is_set():
                continue  # it was lost; the tally has it
            connection.ask(start + due_s(sent, options.rate))
            sent += 1
        # No connection is free: look again soon. Else sleep until the next request is due.
        await asyncio.sleep(max(0.0, start + due_s(sent, options.rate) - time.perf_counter()) if ready else 0.0002)
    for _ in range(int(options.patience * 100)):
        if len(tally.latencies) >= sent or tally.bad:
            break
        await asyncio.sleep(0.01)
    tally.late = total - len(tally.latencies)
    took = time.perf_counter() - start
    for connection in connections:
        connection.transport.close()
    return took


def body_of(kind: str) -> tuple[str, bytes]:
    """(media type, body) of a request of this kind."""
    if kind != "multipart":
        return "application/json", json.dumps(BODIES[kind], separators=(",", ":")).encode()
    head = "--edge\r\nContent-Disposition: form-data; name="
    fields = f'{head}"model"\r\n\r\n{BODIES[kind]["model"]}\r\n{head}"file"; filename="a.bin"\r\n\r\n'
    body = fields.encode() + b"\x01" * RECORDING_BYTES + b"\r\n--edge--\r\n"
    return "multipart/form-data; boundary=edge", body


def requests_with(options: argparse.Namespace) -> list[bytes]:
    """A request for each key, as it goes over the wire."""
    media_type, body = body_of(options.kind)
    keys = options.keys.read_text().split() if options.keys else [options.key]
    more = "".join(f"{header}\r\n" for header in options.header)
    return [
        (
            f"POST {PATHS.get(options.kind, '/v1/chat/completions')} HTTP/1.1\r\nhost: {HOST}:{options.port}\r\n"
            f"authorization: Bearer {key}\r\ncontent-type: {media_type}\r\naccept: application/json\r\n"
            f"user-agent: bench\r\n{more}content-length: {len(body)}\r\n\r\n"
        ).encode()
        + body
        for key in keys
    ]


async def run(options: argparse.Namespace) -> dict[str, object]:
    requests = itertools.cycle(requests_with(options))
    tally = Tally()
    took = await (open_loop if options.rate else closed_loop)(options, requests, tally)
    ordered = sorted(tally.latencies)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "requests": len(ordered),
        "seconds": took,
        "p50_ms": quantile(ordered, 0.5) * 1000,
        "p99_ms": quantile(ordered, 0.99) * 1000,
        "late": tally.late,
        "bad": len(tally.bad),
        "first_bad": tally.bad[0] if tally.bad else "",
        "own_cpu_s": usage.ru_utime + usage.ru_stime,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kind", choices=sorted(BODIES), default="json")
    parser.add_argument("--key", default="none")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--keys", type=Path, help="a file of keys, one a line, used in turn")
    parser.add_argument("--header", action="append", default=[], help="one more, as `name: value`")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds to wait for the last answers")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second, open loop")
    options = parser.parse_args()
    # Timers of epoll and of uvloop are good to a millisecond, which is what the open loop is here to measure; select's
    # are finer, and unlike spinning they leave the CPU to those who are measured.
    precise = lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())  # noqa: E731
    with asyncio.Runner(loop_factory=precise if options.rate else uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(run(options))))


if __name__ == "__main__":
    main()
