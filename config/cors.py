"""Pages of other sites that call `/v1` from a browser (Fetch standard, "CORS protocol").

A key or token in a header opens `/v1`, never a cookie, so credentials of the browser are neither asked for nor allowed.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]

ANY = "*"
MAX_AGE_S = 3600
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
EXPOSED = (
    b"x-request-id, x-cost-credits, x-credits-remaining, x-upstream, x-fallback-from, idempotent-replayed, "
    b"retry-after, x-should-retry, x-ratelimit-limit-requests, x-ratelimit-limit-tokens, "
    b"x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, x-ratelimit-reset-requests, "
    b"x-ratelimit-reset-tokens"
)
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9_,\- ]{1,2000}")


async def serve(
    application: Application, scope: Mapping[str, Any], receive: Receive, send: Send, *, origins: Collection[str]
) -> None:
    """Answer a request under `/v1` by `application`, and say to browsers who may read it; a preflight at once."""
    headers = dict(reversed(scope["headers"]))  # the first of repeated ones
    told = _told(headers.get(b"origin", b""), origins)
    if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
        await _preflight(send, told, headers.get(b"access-control-request-headers", b""))
        return

    async def send_told(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = {name for name, _ in message["headers"]}
            more = [(name, value) for name, value in told if name == b"vary" or name not in own]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    await application(scope, receive, send_told)


def _told(origin: bytes, origins: Collection[str]) -> list[tuple[bytes, bytes]]:
    """The headers that let a page of `origin` read the answer; what only depends on it where it may not."""
    if ANY in origins:
        return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED)]
    vary = (b"vary", b"Origin")
    if origin.decode("latin-1") not in origins:
        return [vary]
    return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", EXPOSED), vary]


async def _preflight(send: Send, told: list[tuple[bytes, bytes]], wanted: bytes) -> None:
    headers = [*told, (b"content-length", b"0")]
    if len(told) > 1:
        headers += [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-max-age", str(MAX_AGE_S).encode()),
        ]
        if _HEADER_NAMES.fullmatch(wanted):
            headers.append((b"access-control-allow-headers", wanted))
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
