"""The bench's own arithmetic, and its timetable: a figure that is wrong here is wrong in every table of the docs."""

import argparse
import asyncio
from pathlib import Path

import pytest

from bench import load
from bench.figures import due_s, median_difference, median_ratio, medians, quantile, requests_of


@pytest.mark.parametrize(
    ("ordered", "share", "expected"),
    [
        ([], 0.5, 0.0),
        ([7.0], 0.5, 7.0),
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.5, 50.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 102)], 0.99, 100.0),
        ([1.0, 2.0, 3.0], 1.0, 3.0),
        ([1.0, 2.0, 3.0], 0.0, 1.0),
    ],
)
def test_a_quantile_is_the_nearest_rank(ordered, share, expected):
    assert quantile(ordered, share) == expected


def test_ratios_are_taken_within_a_round():
    """The machine was three times slower in the second round: 2.0 x in each, though the medians' ratio is not."""
    assert median_ratio([(2.0, 1.0), (6.0, 3.0), (4.0, 1.0)]) == 2.0
    assert median_difference([(5.0, 1.0), (30.0, 29.0), (9.0, 3.0)]) == 4.0
    assert medians([{"a": 1.0, "b": 9.0}, {"a": 3.0, "b": 1.0}, {"a": 2.0, "b": 2.0}]) == {"a": 2.0, "b": 2.0}


@pytest.mark.parametrize(("rate", "seconds", "count"), [(50, 2.0, 100), (0.1 * 3, 10.0, 3), (3, 0.5, 2), (10, 0.01, 1)])
def test_an_open_loop_sends_what_is_due_in_its_time(rate, seconds, count):
    assert requests_of(rate, seconds) == count
    assert due_s(count - 1, rate) < seconds
    assert due_s(count, rate) >= seconds - 1e-9


class Stalling(asyncio.Protocol):
    """Answers each request at once, but for one pause of the whole server; or never."""

    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

    def __init__(self, until: float | None) -> None:
        self.until = until

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self.until is not None:
            loop.call_at(max(self.until, loop.time()), self.transport.write, self.answer)


def ask(stall_s: float | None, **options) -> dict:
    """What the load generator says of a server that answers nothing until `stall_s` after its start; None: never."""

    async def run():
        loop = asyncio.get_running_loop()
        until = None if stall_s is None else loop.time() + stall_s
        server = await loop.create_server(lambda: Stalling(until), load.HOST, 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            chosen = {"kind": "json", "key": "k", "keys": None, "header": [], "connections": 2, "patience": 0.2}
            return await load.run(argparse.Namespace(port=port, **chosen | options))

    return asyncio.run(run())


def test_a_stalled_server_delays_what_was_due_meanwhile():
    """Two requests are in the air when it stalls; the others count from when they were due, not from when they left."""
    report = ask(0.4, rate=100.0, seconds=0.4)
    assert report["requests"] == 40
    assert report["late"] == 0
    assert report["p50_ms"] > 150
    assert report["p99_ms"] > 350


def test_what_has_no_answer_is_told_and_in_no_quantile():
    report = ask(None, rate=0.0, seconds=0.1)
    assert (report["requests"], report["late"], report["bad"]) == (0, 2, 0)


def test_a_request_for_each_key_and_the_headers_that_a_peer_needs(tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text("one\ntwo\n")
    options = argparse.Namespace(kind="json", port=1, keys=keys, key="none", header=["x-to: there"])
    one, two = load.requests_with(options)
    assert b"authorization: Bearer one\r\n" in one
    assert b"authorization: Bearer two\r\n" in two
    assert b"\r\nx-to: there\r\n" in one
