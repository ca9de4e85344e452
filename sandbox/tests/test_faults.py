"""Each fault as it looks on the bare connection."""

import asyncio
import gzip
import json
import re
import time
import zlib

import pytest

from sandbox.provider.directives import BadDirective, parse

WORDS = "say=one two three four five six"


async def ask(running, directives, *, stream=False, in_prompt=False, body_sent=True, **more):
    """What came back, byte for byte, and whether the connection was reset."""
    prompt = f"Hi [[{directives}]]" if in_prompt else "Hi"
    body = json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": prompt}], "stream": stream, **more}
    ).encode()
    head = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: sandbox",
        f"Authorization: Bearer {running.key}",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *([] if in_prompt else [f"x-sandbox: {directives}"]),
    ]
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + (body if body_sent else b""))
    received = b""
    try:
        async with asyncio.timeout(10):
            while data := await reader.read(2**20):
                received += data
        return received, False
    except ConnectionResetError:
        return received, True
    finally:
        writer.close()


def unchunked(received: bytes) -> tuple[bytes, bool]:
    """The body of a chunked answer as far as it came, and whether it ended properly."""
    rest = received.partition(b"\r\n\r\n")[2]
    body = b""
    while match := re.match(rb"([0-9a-f]+)\r\n", rest):
        size = int(match[1], 16)
        if size == 0:
            return body, True
        body += rest[match.end() : match.end() + size]
        rest = rest[match.end() + size + 2 :]
    return body, False


def events(received: bytes) -> list:
    body, _ = unchunked(received)
    lines = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def usages(received: bytes) -> list:
    return [event["usage"] for event in events(received) if event != "[DONE]" and event.get("usage") is not None]


WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


async def test_reset_after_the_headers(running):
    received, was_reset = await ask(running, "reset=headers", stream=True)
    assert received.startswith(b"HTTP/1.1 200")
    assert was_reset
    received, was_reset = await ask(running, "reset=headers")
    assert received.endswith(b"\r\n\r\n")
    assert was_reset


async def test_reset_in_the_stream(running):
    received, was_reset = await ask(running, f"{WORDS}; reset=2", stream=True)
    assert was_reset
    assert b"three" not in received


async def test_cut_after_an_event(running):
    received, was_reset = await ask(running, f"{WORDS}; cut=3", stream=True)
    body, ended = unchunked(received)
    assert not ended
    assert not was_reset
    assert b"three" in body
    assert b"four" not in body
    assert body.endswith(b"\n\n")


@pytest.mark.parametrize("place", ["data", "json", "utf8"])
async def test_cut_inside_an_event(running, place):
    received, _ = await ask(running, f"{WORDS}; cut={place}:3", stream=True)
    body, ended = unchunked(received)
    assert not ended
    tail = body.rpartition(b"\n\n")[2]
    if place == "data":
        assert tail == b"dat"
    elif place == "json":
        assert tail.startswith(b'data: {"')
        with pytest.raises(ValueError, match=r"delimiter|Unterminated|Expecting"):
            json.loads(tail[6:])
    else:
        with pytest.raises(UnicodeDecodeError):
            tail.decode()


async def test_end_early_looks_like_success(running):
    received, _ = await ask(running, f"{WORDS}; end=2", stream=True)
    body, ended = unchunked(received)
    assert ended
    assert b"[DONE]" not in body


async def test_a_plain_answer_breaks_off(running):
    received, _ = await ask(running, f"{WORDS}; cut=1")
    head, _, body = received.partition(b"\r\n\r\n")
    assert int(re.search(rb"content-length: (\d+)", head)[1]) > len(body) > 0


@pytest.mark.parametrize(("kind", "difference"), [("short", -10), ("long", 10)])
async def test_a_content_length_that_lies(running, kind, difference):
    received, _ = await ask(running, f"length={kind}")
    head, _, body = received.partition(b"\r\n\r\n")
    assert int(re.search(rb"content-length: (\d+)", head)[1]) == len(body) + difference


async def test_where_usage_is_sent(running):
    assert len(usages((await ask(running, WORDS, **WITH_USAGE))[0])) == 1
    assert usages((await ask(running, f"{WORDS}; no-usage", **WITH_USAGE))[0]) == []
    first, last = usages((await ask(running, f"{WORDS}; usage=twice", **WITH_USAGE))[0])
    assert first["completion_tokens"] < last["completion_tokens"]
    every = [
        usage["completion_tokens"] for usage in usages((await ask(running, f"{WORDS}; usage=every", **WITH_USAGE))[0])
    ]
    assert every == sorted(every)
    assert len(every) == 7
    on_content = events((await ask(running, f"{WORDS}; usage=content", **WITH_USAGE))[0])
    assert on_content[-2]["choices"][0]["finish_reason"] == "stop"
    assert on_content[-2]["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("zero", 0),
        ("negative", -7),
        ("string", "12"),
        ("huge", 10**17),
        ("float", 12.5),
        ("bool", True),
        ("list", [12]),
    ],
)
async def test_what_usage_says(running, kind, value):
    assert usages((await ask(running, f"usage={kind}", **WITH_USAGE))[0])[0]["completion_tokens"] == value
    plain = json.loads((await ask(running, f"usage={kind}"))[0].partition(b"\r\n\r\n")[2])
    assert plain["usage"]["prompt_tokens"] == value


async def test_usage_null_and_nan(running):
    received, _ = await ask(running, "usage=null", **WITH_USAGE)
    assert usages(received) == []
    assert b'"usage":null' in received
    assert b'"completion_tokens":NaN' in (await ask(running, "usage=nan", **WITH_USAGE))[0]


async def test_done_twice_and_missing(running):
    assert (await ask(running, "done=twice", stream=True))[0].count(b"[DONE]") == 2
    received, _ = await ask(running, "done=missing", stream=True)
    assert b"[DONE]" not in received
    assert unchunked(received)[1]


async def test_an_error_after_200(running):
    told = events((await ask(running, f"{WORDS}; error=2", stream=True))[0])
    assert told[-1]["error"]["type"] == "server_error"


async def test_statuses(running):
    received, _ = await ask(running, "status=429; retry-after=7", in_prompt=True)
    assert received.startswith(b"HTTP/1.1 429")
    assert b"retry-after: 7" in received
    assert b'"code":"rate_limit_exceeded"' in received
    received, _ = await ask(running, "html")
    assert received.startswith(b"HTTP/1.1 200")
    assert b"text/html" in received
    received, _ = await ask(running, "redirect")
    assert b"location: http://169.254.169.254/" in received


async def test_times(running):
    started = time.monotonic()
    await ask(running, "delay=200ms")
    assert 0.2 <= time.monotonic() - started < 2
    started = time.monotonic()
    received, _ = await ask(running, "drip=1ms; words=3", stream=True)
    assert time.monotonic() - started > 0.5
    assert unchunked(received)[1]


@pytest.mark.parametrize(
    ("directives", "head"), [("hang", b""), ("hang=headers", b"HTTP/1.1 200"), ("stall=2", b"HTTP")]
)
async def test_silence(running, directives, head):
    task = asyncio.create_task(ask(running, directives, stream=True))
    done, _ = await asyncio.wait([task], timeout=0.4)
    assert not done
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for _ in range(100):
        if running.provider.journal[-1].state == "disconnected":
            break
        await asyncio.sleep(0.02)
    assert running.provider.journal[-1].state == "disconnected"


async def test_a_long_line(running):
    received, _ = await ask(running, "line=10MB", stream=True)
    assert max(map(len, unchunked(received)[0].splitlines())) > 10 * 1024**2
    assert unchunked(received)[1]


async def test_gzip_and_its_bomb(running):
    received, _ = await ask(running, f"gzip; {WORDS}")
    assert b"content-encoding: gzip" in received
    assert b"one two" in gzip.decompress(received.partition(b"\r\n\r\n")[2])
    received, _ = await ask(running, f"gzip; {WORDS}", stream=True)
    assert b"[DONE]" in zlib.decompress(unchunked(received)[0], wbits=31)
    received, _ = await ask(running, "gzip=64MB")
    assert len(received) < 200_000
    assert len(gzip.decompress(received.partition(b"\r\n\r\n")[2])) == 64 * 1024**2


async def test_odd_bytes(running):
    received, _ = await ask(running, f"nul; {WORDS}", stream=True)
    assert b"\\u0000" in received
    assert b"\\ud800" in received
    assert b": keep-alive" in (await ask(running, "comments", stream=True))[0]
    body = unchunked((await ask(running, "crlf", stream=True))[0])[0]
    assert b"\n" not in body.replace(b"\r\n", b"")
    broken = unchunked((await ask(running, "bad-json", stream=True))[0])[0].splitlines()
    with pytest.raises(ValueError, match="Expecting"):
        [json.loads(line[6:]) for line in broken if line.startswith(b"data: {")]
    received, _ = await ask(running, "headers=100")
    assert received.count(b"x-filler-") == 100
    assert len(events((await ask(running, f"duplicate-index; {WORDS}", stream=True))[0])[1]["choices"]) == 2


async def test_an_answer_before_the_body_was_read(running):
    received, _ = await ask(running, "early; status=500", body_sent=False)
    assert received.startswith(b"HTTP/1.1 500")


def test_directives_are_parsed():
    directives = parse("delay=1.5s; slow=20ms; no-usage; cut=json:3; line=2KB")
    assert directives.seconds("delay") == 1.5
    assert directives.seconds("slow") == 0.02
    assert "no-usage" in directives
    assert directives.inside("cut") == ("json", 3)
    assert directives.number("cut") is None
    assert directives.size("line") == 2048
    with pytest.raises(BadDirective):
        parse("delay=soon").seconds("delay")
