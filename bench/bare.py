"""The yardstick: the gateway's own stack (uvicorn, bare ASGI, aiohttp) as a pass-through without keys or money."""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp

UPSTREAM = os.environ.get("BENCH_UPSTREAM", "http://127.0.0.1:9")
DROPPED = {"connection", "content-length", "date", "host", "keep-alive", "server", "transfer-encoding"}
_sessions: list[aiohttp.ClientSession] = []

Message = MutableMapping[str, Any]


def _session() -> aiohttp.ClientSession:
    if not _sessions:
        _sessions.append(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, raise_for_status=False
            )
        )
    return _sessions[0]


async def application(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Forward one request as it stands and its answer as it arrives."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"] if k.decode() not in DROPPED]
    async with _session().request(scope["method"], UPSTREAM + scope["path"], data=body, headers=headers) as answer:
        kept = [(name.lower(), value) for name, value in answer.raw_headers]
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [
                    (name, value)
                    for name, value in kept
                    if name.decode() not in DROPPED or (name == b"content-length" and answer.status == 200)
                ],
            }
        )
        if answer.content_length is not None:
            await send({"type": "http.response.body", "body": await answer.read()})
            return
        async for part in answer.content.iter_any():
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
