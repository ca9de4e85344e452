"""What the scripted upstream (`scripted.py`) can do to a call: a function for each way in which providers misbehave."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

PROMPT_TOKENS = 10
DEFAULT_TOKENS = 16
# A recording of so many bytes is one word.
BYTES_PER_TOKEN = 10_000


@dataclass
class Call:
    """One request as it came in, and how its answer is going."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    marker: str = ""
    script: str = ""
    argument: int = 0
    chunks_sent: int = 0
    is_whole: bool = False

    @property
    def tokens(self) -> int:
        if "file" in self.body:
            return int(self.body["file"]["size"]) // BYTES_PER_TOKEN
        return int(self.body.get("max_tokens") or self.body.get("max_completion_tokens") or DEFAULT_TOKENS)

    @property
    def is_stream(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": self.tokens,
            "total_tokens": PROMPT_TOKENS + self.tokens,
        }


# ---------------------------------------------------------------- building answers
def head(call: Call, *more: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"x-request-id: {call.marker}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def stream_head(call: Call) -> bytes:
    return head(call, "transfer-encoding: chunked", kind="text/event-stream")


def framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(value: Any) -> bytes:
    return framed(b"data: " + (value if isinstance(value, bytes) else orjson.dumps(value)) + b"\n\n")


def chunk(call: Call, delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": call.marker,
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": choices,
        **more,
    }


def usage_chunk(call: Call, usage: Any) -> dict[str, Any]:
    return {
        "id": call.marker,
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [],
        "usage": usage,
    }


def completion(call: Call, **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "word " * call.tokens}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    answer = {"id": call.marker, "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
    return {**answer, "usage": call.usage, **more}


def embedding(call: Call) -> dict[str, Any]:
    inputs = call.body["input"] if isinstance(call.body["input"], list) else [call.body["input"]]
    data = [{"object": "embedding", "index": i, "embedding": [0.5, -0.25, i]} for i, _ in enumerate(inputs)]
    usage = {"prompt_tokens": PROMPT_TOKENS * len(inputs), "total_tokens": PROMPT_TOKENS * len(inputs)}
    return {"object": "list", "model": "m", "data": data, "usage": usage}


def transcription(call: Call) -> dict[str, Any]:
    usage = {"type": "tokens", "input_tokens": PROMPT_TOKENS, "output_tokens": call.tokens}
    return {"text": "word " * call.tokens, "usage": usage | {"total_tokens": PROMPT_TOKENS + call.tokens}}


async def _plain(call: Call, writer: asyncio.StreamWriter, answer: Any, **head_options: Any) -> None:
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    writer.write(head(call, f"content-length: {len(body)}", **head_options) + body)
    await writer.drain()


async def normal(call: Call, writer: asyncio.StreamWriter) -> None:
    if call.path.endswith("/embeddings"):
        await _plain(call, writer, embedding(call))
    elif not call.is_stream:
        await asyncio.sleep(call.argument / 1000)
        await _plain(call, writer, transcription(call) if "file" in call.body else completion(call))
    else:
        await _words(call, writer)
        await _ending(call, writer, call.usage)


async def _words(call: Call, writer: asyncio.StreamWriter, count: int | None = None) -> None:
    writer.write(stream_head(call))
    writer.write(event(chunk(call, {"role": "assistant", "content": ""})))
    for _ in range(call.tokens if count is None else count):
        if call.argument:
            await asyncio.sleep(call.argument / 1000)
        writer.write(event(chunk(call, {"content": "word "})))
        call.chunks_sent += 1
        await writer.drain()


async def _ending(call: Call, writer: asyncio.StreamWriter, *usages: Any, done: int = 1) -> None:
    writer.write(event(chunk(call, {}, "stop")))
    for usage in usages:
        writer.write(event(usage_chunk(call, usage)))
    writer.write(event(b"[DONE]") * done + b"0\r\n\r\n")
    await writer.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    """RST rather than FIN."""
    writer.transport.abort()


# ---------------------------------------------------------------- the scripts
Script = Callable[[Call, asyncio.StreamWriter], Awaitable[None]]


def _usage(value: Any) -> Script:
    """A correct answer but for its usage; bytes are put in as they are, since they may be no JSON."""

    async def script(call: Call, writer: asyncio.StreamWriter) -> None:
        usage = value(call) if callable(value) else value
        raw = usage if isinstance(usage, bytes) else orjson.dumps(usage)
        if call.is_stream:
            await _words(call, writer)
            writer.write(event(chunk(call, {}, "stop")))
            writer.write(event(orjson.dumps(usage_chunk(call, "U")).replace(b'"U"', raw)))
            writer.write(event(b"[DONE]") + b"0\r\n\r\n")
            await writer.drain()
        else:
            await _plain(call, writer, orjson.dumps(completion(call, usage="U")).replace(b'"U"', raw))

    return script


async def _no_usage(call: Call, writer: asyncio.StreamWriter) -> None:
    if call.is_stream:
        await _words(call, writer)
        await _ending(call, writer)
    else:
        answer = completion(call)
        del answer["usage"]
        await _plain(call, writer, answer)


async def _usage_twice(call: Call, writer: asyncio.StreamWriter) -> None:
    await _words(call, writer)
    await _ending(call, writer, {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}, call.usage)


async def _cut(call: Call, writer: asyncio.StreamWriter) -> None:
    """Half the words of a stream, or half of a plain answer, then RST."""
    if call.is_stream:
        await _words(call, writer, call.tokens // 2)
    else:
        body = orjson.dumps(completion(call))
        writer.write(head(call, f"content-length: {len(body)}") + body[: len(body) // 2])
        await writer.drain()
    await asyncio.sleep(0.05)
    _abort(writer)


async def _cut_in_utf8(call: Call, writer: asyncio.StreamWriter) -> None:
    await _words(call, writer, 3)
    data = "data: " + orjson.dumps(chunk(call, {"content": "tuppence €"})).decode()
    raw = data.encode()
    writer.write(framed(raw[: raw.index("€".encode()) + 1]))
    await writer.drain()
    await asyncio.sleep(0.05)
    _abort(writer)


async def _clean_eof(call: Call, writer: asyncio.StreamWriter) -> None:
    """Ends as a correct HTTP body does, but without usage and without [DONE]."""
    await _words(call, writer, call.tokens // 2)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _done_twice(call: Call, writer: asyncio.StreamWriter) -> None:
    await _words(call, writer)
    await _ending(call, writer, call.usage, done=2)


async def _no_done(call: Call, writer: asyncio.StreamWriter) -> None:
    await _words(call, writer)
    await _ending(call, writer, call.usage, done=0)


async def _error_in_stream(call: Call, writer: asyncio.StreamWriter) -> None:
    await _words(call, writer, 4)
    writer.write(event({"error": {"message": "the GPU at 10.0.0.7 fell over", "type": "server_error", "code": 500}}))
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _hang_up(call: Call, writer: asyncio.StreamWriter) -> None:
    _abort(writer)


async def _silence(call: Call, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def _stall(call: Call, writer: asyncio.StreamWriter) -> None:
    """A few words, then nothing, with the connection open."""
    await _words(call, writer, 3)
    await asyncio.sleep(3600)


async def _html(call: Call, writer: asyncio.StreamWriter) -> None:
    page = b"<html><body><h1>502 Bad Gateway</h1>internal-lb-7.example.net</body></html>"
    await _plain(call, writer, page, kind="text/html", status="502 Bad Gateway")


async def _html_200(call: Call, writer: asyncio.StreamWriter) -> None:
    await _plain(call, writer, b"<html><body>Please log in</body></html>", kind="text/html")


async def _not_json(call: Call, writer: asyncio.StreamWriter) -> None:
    await _plain(call, writer, b'{"id": "x", "choices": [')


async def _redirect(call: Call, writer: asyncio.StreamWriter) -> None:
    where = "location: http://169.254.169.254/latest/meta-data/"
    writer.write(head(call, where, "content-length: 0", status="302 Found"))
    await writer.drain()


async def _short_body(call: Call, writer: asyncio.StreamWriter) -> None:
    """Promises more bytes than it sends."""
    body = orjson.dumps(completion(call))
    writer.write(head(call, f"content-length: {len(body) + 500}") + body)
    await writer.drain()


async def _long_line(call: Call, writer: asyncio.StreamWriter) -> None:
    """Ten megabytes without a newline."""
    writer.write(stream_head(call))
    writer.write(framed(b"data: "))
    for _ in range(160):
        writer.write(framed(b"x" * 65_536))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _gzip_bomb(call: Call, writer: asyncio.StreamWriter) -> None:
    """Some hundred kilobytes that unpack to 256 MB: what ends with a full flush can be repeated as it is."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    body = b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + block * 256 + b"\x03\0"
    writer.write(head(call, "content-encoding: gzip", f"content-length: {len(body)}") + body)
    await writer.drain()


async def _many_headers(call: Call, writer: asyncio.StreamWriter) -> None:
    body = orjson.dumps(completion(call))
    noise = [f"x-noise-{number}: {'n' * 40}" for number in range(100)]
    writer.write(head(call, *noise, "set-cookie: upstream=1", f"content-length: {len(body)}") + body)
    await writer.drain()


async def _nul_text(call: Call, writer: asyncio.StreamWriter) -> None:
    """NUL in text and in the usage, which PostgreSQL refuses in text and in JSON."""
    raw = orjson.dumps(completion(call)).replace(b"word ", b"\\u0000 ", 1)
    await _plain(call, writer, raw.replace(b'"usage":{', b'"usage":{"note":"\\u0000",'))


async def _lone_surrogate(call: Call, writer: asyncio.StreamWriter) -> None:
    """Half of a surrogate pair, which is no JSON by RFC 8259 and yet what some servers send."""
    await _plain(call, writer, orjson.dumps(completion(call)).replace(b"word ", b"\\ud800 ", 1))


async def _byte_by_byte(call: Call, writer: asyncio.StreamWriter) -> None:
    """A correct stream, one byte in each packet."""
    writer.write(stream_head(call))
    body = b"".join(
        b"data: " + orjson.dumps(chunk(call, {"content": "wörd "})) + b"\r\n\r\n" for _ in range(call.tokens)
    )
    body += b"data: " + orjson.dumps(usage_chunk(call, call.usage)) + b"\r\n\r\ndata: [DONE]\r\n\r\n"
    for number in range(len(body)):
        writer.write(framed(body[number : number + 1]))
        if number % 16 == 0:
            await writer.drain()
            await asyncio.sleep(0)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _tool_call(call: Call, writer: asyncio.StreamWriter) -> None:
    """Only a tool call, its arguments in pieces; reasoning tokens in the usage."""
    writer.write(stream_head(call))
    function = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "pay", "arguments": ""}}
    writer.write(event(chunk(call, {"role": "assistant", "tool_calls": [function]})))
    for part in ('{"pen', 'ce": ', "2}"):
        writer.write(event(chunk(call, {"tool_calls": [{"index": 0, "function": {"arguments": part}}]})))
    writer.write(event(chunk(call, {}, "tool_calls")))
    usage = {**call.usage, "completion_tokens_details": {"reasoning_tokens": call.tokens - 3}}
    writer.write(event(usage_chunk(call, usage)) + event(b"[DONE]") + b"0\r\n\r\n")
    await writer.drain()


def _status(status: str, error: dict[str, Any], *headers: str) -> Script:
    async def script(call: Call, writer: asyncio.StreamWriter) -> None:
        body = orjson.dumps({"error": error})
        writer.write(head(call, *headers, f"content-length: {len(body)}", status=status) + body)
        await writer.drain()

    return script


def _counts(prompt: Any, output: Any) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": None}


SCRIPTS: dict[str, Script] = {
    "pace": normal,
    "no_usage": _no_usage,
    "usage_twice": _usage_twice,
    "usage_null": _usage(None),
    "usage_zero": _usage({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
    "usage_negative": _usage(_counts(-5, -7)),
    "usage_text": _usage("lots"),
    "usage_strings": _usage(_counts("10", "16")),
    "usage_huge": _usage(_counts(10, 10**18)),
    "usage_nan": _usage(b'{"prompt_tokens":NaN,"completion_tokens":NaN}'),
    "usage_tenfold": _usage(lambda call: {**call.usage, "completion_tokens": call.tokens * 10, "total_tokens": None}),
    "cut": _cut,
    "cut_in_utf8": _cut_in_utf8,
    "clean_eof": _clean_eof,
    "done_twice": _done_twice,
    "no_done": _no_done,
    "error_in_stream": _error_in_stream,
    "hang_up": _hang_up,
    "silence": _silence,
    "stall": _stall,
    "html": _html,
    "html_200": _html_200,
    "not_json": _not_json,
    "redirect": _redirect,
    "short_body": _short_body,
    "long_line": _long_line,
    "gzip_bomb": _gzip_bomb,
    "many_headers": _many_headers,
    "nul_text": _nul_text,
    "lone_surrogate": _lone_surrogate,
    "byte_by_byte": _byte_by_byte,
    "tool_call": _tool_call,
    "status_400": _status("400 Bad Request", {"message": "no", "type": "invalid_request_error", "code": "bad_thing"}),
    "status_401": _status("401 Unauthorized", {"message": "Incorrect API key sk-upstream-secret", "code": "x"}),
    "status_429": _status(
        "429 Too Many Requests", {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}
    ),
    "status_500": _status("500 Internal Server Error", {"message": "boom at db-3.internal", "type": "server_error"}),
}
