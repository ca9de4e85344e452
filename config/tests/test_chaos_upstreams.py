"""Upstreams that misbehave in every way we know (F4): the client gets OpenAI's shape, in time, at the right charge.

All run against one web worker that waits 2 s for a first byte and 2 s between two. Input costs 100 nano-dollars a
token, output 1,000; a correct answer of the scripted upstream has 10 and 16 tokens.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from config.tests import books
from config.tests.processes import Installation, Service
from config.tests.scripted import Upstream
from config.tests.scripts import SCRIPTS

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("upstreams")]

INPUT, OUTPUT = 100, 1_000
TOKENS = 16
FULL = 10 * INPUT + TOKENS * OUTPUT
CREDIT = 100_000_000
MAX_RSS_BYTES = 700 * 1024 * 1024
SECRETS = (b"10.0.0.7", b"internal-lb-7", b"sk-upstream-secret", b"db-3.internal", b"169.254", b"127.0.0.1")


@dataclass(frozen=True)
class Case:
    """A script, how it is called, and what must come of it.

    `cost` None: our estimate, above 0 and at most the hold, marked so. `error`: the code in the body, or in the stream
    after 200.
    """

    script: str
    stream: bool
    status: int = 200
    cost: int | None = 0
    error: str = ""
    outcome: str = "completed"

    def __str__(self) -> str:
        return f"{self.script} {'stream' if self.stream else 'plain'}"


def failed(script: str, *, stream: bool, status: int = 502, error: str = "upstream_error", outcome: str = "") -> Case:
    """Nothing came, nothing is charged."""
    return Case(script, stream, status, 0, error, outcome or "upstream_error")


def cut(script: str, *, outcome: str = "upstream_cut", error: str = "upstream_error") -> Case:
    """It broke off after output: an error event instead of [DONE], an estimate of what came."""
    return Case(script, True, 200, None, error, outcome)


CASES = [
    # usage, right and wrong
    Case("usage_twice", True, cost=FULL),
    *(Case("usage_zero", stream, cost=0) for stream in (False, True)),
    *(
        Case(script, stream, cost=None)
        for script in ("no_usage", "usage_null", "usage_negative", "usage_text", "usage_huge")
        for stream in (False, True)
    ),
    Case("usage_nan", True, cost=None),
    failed("usage_nan", stream=False),
    # more than was asked for: the truth is charged, above the hold
    *(Case("usage_tenfold", stream, cost=10 * INPUT + 160 * OUTPUT) for stream in (False, True)),
    # streams that end oddly
    cut("cut"),
    cut("cut_in_utf8"),
    cut("clean_eof"),
    cut("error_in_stream", outcome="upstream_error"),
    cut("stall", outcome="timeout", error="upstream_timeout"),
    Case("done_twice", True, cost=FULL),
    Case("no_done", True, cost=FULL),
    Case("byte_by_byte", True, cost=FULL),
    Case("tool_call", True, cost=FULL),
    # no answer at all
    *(failed("hang_up", stream=stream) for stream in (False, True)),
    failed("silence", stream=False, status=504, error="upstream_timeout", outcome="timeout"),
    failed("silence", stream=True, status=504, error="upstream_timeout", outcome="timeout"),
    # answers that are none
    *(failed("html", stream=stream) for stream in (False, True)),
    *(failed("html_200", stream=stream) for stream in (False, True)),
    *(failed("not_json", stream=stream) for stream in (False, True)),
    *(failed("redirect", stream=stream) for stream in (False, True)),
    failed("cut", stream=False),
    failed("short_body", stream=False),
    failed("gzip_bomb", stream=False),
    failed("lone_surrogate", stream=False),
    # refusals
    *(failed("status_400", stream=s, status=400, error="bad_thing", outcome="rejected") for s in (False, True)),
    *(failed("status_401", stream=stream) for stream in (False, True)),
    *(failed("status_429", stream=s, status=503, error="upstream_overloaded") for s in (False, True)),
    *(failed("status_500", stream=stream) for stream in (False, True)),
    # odd but right
    Case("many_headers", False, cost=FULL),
    Case("nul_text", False, cost=FULL),
]


@pytest.fixture(scope="module")
def odd_models(installation: Installation, upstream: Upstream) -> None:
    """A model for each script: one that cools down after its failures troubles no other."""
    prices = {"input": INPUT, "output": OUTPUT}
    names = [f"odd-{script.replace('_', '-')}" for script in SCRIPTS]
    installation.clerk.models(names=names, base_url=upstream.base_url, upstream_name="m", prices=prices)


@pytest.fixture(scope="module")
def customer(installation: Installation, odd_models: None) -> dict[str, Any]:
    record: dict[str, Any] = installation.clerk.organization(name="odd", credit_nanos=CREDIT)
    return record


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=25)) as opened:
        yield opened


def request_of(script: str, *, stream: bool) -> dict[str, Any]:
    return {
        "model": f"odd-{script.replace('_', '-')}",
        "max_tokens": TOKENS,
        "messages": [{"role": "user", "content": f"m-{script.replace('_', '-')} [[{script}]]"}],
        **({"stream": True} if stream else {}),
    }


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def events(body: bytes) -> Iterator[dict[str, Any]]:
    """The JSON events of a stream, strictly: a line that is neither a comment nor data is an error."""
    for line in body.decode().splitlines():
        assert not line or line.startswith((":", "data: ", "data:")), line
        if line.startswith("data:") and (data := line[5:].strip()) != "[DONE]":
            yield json.loads(data, strict=False)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_an_odd_upstream(
    case: Case, site: Installation, web: Service, customer: dict[str, Any], session: aiohttp.ClientSession
) -> None:
    started = time.monotonic()
    headers = {"authorization": f"Bearer {customer['secret']}"}
    body = request_of(case.script, stream=case.stream)
    async with session.post(f"{web.url}/v1/chat/completions", json=body, headers=headers) as answer:
        raw = await answer.read()
        request_id = answer.headers["x-request-id"]
    assert time.monotonic() - started < 12
    assert answer.status == case.status, raw[:500]
    assert not any(secret in raw for secret in SECRETS)
    assert b"<html" not in raw
    assert "set-cookie" not in answer.headers
    assert not [name for name in answer.headers if name.lower().startswith("x-noise")]

    if case.status != 200:
        error = json.loads(raw)["error"]
        assert set(error) >= {"message", "type", "param", "code"}
        assert error["code"] == case.error
    elif case.stream:
        errors = [event["error"] for event in events(raw) if "error" in event]
        assert [error["code"] for error in errors] == ([case.error] if case.error else [])
        assert raw.count(b"data: [DONE]") == (0 if case.error else 1)
        if case.script != "usage_nan":  # that event is no JSON, so it passed as it came
            assert not [event for event in events(raw) if event.get("usage")]
    else:
        assert json.loads(raw, strict=False)["choices"]

    (row,) = books.usage_of(site, request_id)
    assert (row["outcome"], row["status_code"]) == (case.outcome, case.status)
    if case.cost is None:
        assert row["estimated"]
        assert 0 < row["cost_nanos"] <= row["hold_nanos"]
    else:
        assert (row["cost_nanos"], row["estimated"]) == (case.cost, False)
    assert rss_bytes(web.pid) < MAX_RSS_BYTES


async def test_ten_megabytes_without_a_newline_end_in_an_error_and_bounded_memory(
    site: Installation, web: Service, customer: dict[str, Any], session: aiohttp.ClientSession
) -> None:
    headers = {"authorization": f"Bearer {customer['secret']}"}
    body = request_of("long_line", stream=True)
    async with session.post(f"{web.url}/v1/chat/completions", json=body, headers=headers) as answer:
        raw = await answer.read()
    assert b"[DONE]" not in raw
    assert b'"error"' in raw
    assert rss_bytes(web.pid) < MAX_RSS_BYTES
    (row,) = books.usage_of(site, answer.headers["x-request-id"])
    assert row["cost_nanos"] <= row["hold_nanos"]


async def test_after_all_of_it_the_worker_is_the_same_and_the_books_are_right(
    site: Installation, web: Service, customer: dict[str, Any], session: aiohttp.ClientSession, upstream: Upstream
) -> None:
    pid = web.pid
    headers = {"authorization": f"Bearer {customer['secret']}"}
    bodies = [request_of("pace", stream=number % 2 == 0) for number in range(20)]

    async def ask(body: dict[str, Any]) -> int:
        async with session.post(f"{web.url}/v1/chat/completions", json=body, headers=headers) as answer:
            await answer.read()
            return answer.status

    assert await asyncio.gather(*(ask(body) for body in bodies)) == [200] * 20
    assert (web.pid, web.workers()) == (pid, [])
    spent = sum(row["cost_nanos"] for row in books.usage(site, customer["id"]))
    books.prove(site, customer, credit=CREDIT, spent=spent)
