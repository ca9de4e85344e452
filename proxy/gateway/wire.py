"""HTTP as ASGI delivers it: one request read with limits and a deadline, one response written."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import orjson

from proxy.gateway import forms
from proxy.gateway.errors import InvalidJson, InvalidRequest, RequestTimedOut, RequestTooLarge, UnsupportedMediaType
from proxy.gateway.patience import within

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_SLASHES = re.compile("/{2,}")


class ClientGone(Exception):
    """The client hung up before its request was whole: nobody is left to answer."""


def intended(path: str) -> str:
    """The path that a base URL was to give, had it been joined with care: each slash once, and `/v1` once."""
    path = _SLASHES.sub("/", path)
    while path.startswith("/v1/v1/"):
        path = path.removeprefix("/v1")
    return path


class Request:
    """One HTTP request: method, path, headers by lower-case name (the first of repeated ones), body on demand."""

    __slots__ = ("_receive", "headers", "method", "path", "query", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: str = scope.get("query_string", b"").decode("latin-1")
        self._receive = receive
        # ASGI gives the names in lower case. The first of repeated ones counts: it is put in last.
        self.headers: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in reversed([*scope["headers"]])
        }

    def client_address(self, trusted_proxies: int) -> IPv4Address | IPv6Address | None:
        """The caller's address; behind N `trusted_proxies` it is the Nth from the right of X-Forwarded-For."""
        host = (self.scope.get("client") or ("",))[0]
        if trusted_proxies:
            forwarded = [part.strip() for part in self.headers.get("x-forwarded-for", "").split(",") if part.strip()]
            if len(forwarded) >= trusted_proxies:
                host = forwarded[-trusted_proxies]
        try:
            return ip_address(host)
        except ValueError:
            return None

    async def body(self, *, limit: int, timeout_s: float) -> bytes:
        """The whole body. Raises `RequestTooLarge` before reading past `limit`, `RequestTimedOut`, `ClientGone`."""
        declared = self.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            raise RequestTooLarge(limit)
        message = await self._next(timeout_s)
        if not message.get("more_body"):
            body: bytes = message.get("body", b"")
            if len(body) > limit:
                raise RequestTooLarge(limit)
            return body
        deadline = asyncio.get_running_loop().time() + timeout_s
        parts = bytearray(message.get("body", b""))
        while message.get("more_body"):
            message = await self._next(deadline - asyncio.get_running_loop().time())
            parts += message.get("body", b"")
            if len(parts) > limit:
                raise RequestTooLarge(limit)
        return bytes(parts)

    async def json(self, *, limit: int, timeout_s: float) -> tuple[dict[str, Any], bytes]:
        """The body as a JSON object, and its bytes. Raises as `body`, `UnsupportedMediaType` or `InvalidJson`."""
        media_type = self.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise UnsupportedMediaType("application/json")
        if self.headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
            raise InvalidRequest("Send the body without Content-Encoding.", code="unsupported_content_encoding")
        raw = await self.body(limit=limit, timeout_s=timeout_s)
        try:
            parsed = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise InvalidJson(error.msg) from None
        if not isinstance(parsed, dict):
            raise InvalidJson("expected an object")
        return parsed, raw

    async def form(self, *, limit: int, idle_s: float, total_s: float) -> forms.Form:
        """The body as a multipart form, which the caller closes. Raises as `body`, `UnsupportedMediaType`."""
        declared = self.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            raise RequestTooLarge(limit)
        pieces = self.pieces(idle_s=idle_s, total_s=total_s, limit=limit)
        return await forms.parse(self.headers.get("content-type", ""), pieces, limit=limit)

    async def pieces(self, *, idle_s: float, total_s: float, limit: int) -> AsyncIterator[bytes]:
        """The body as it comes. Raises as `body`."""
        total = 0
        deadline = asyncio.get_running_loop().time() + total_s
        has_more = True
        while has_more:
            left = deadline - asyncio.get_running_loop().time()
            message = await self._next(min(idle_s, left))
            has_more = message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            total += len(piece)
            if total > limit:
                raise RequestTooLarge(limit)
            if piece:
                yield piece

    async def wait_for_disconnect(self) -> None:
        """Return when the client has gone; only `receive()` sees that, `send()` never raises."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self, timeout_s: float) -> Mapping[str, Any]:
        try:
            message = await within(timeout_s, self._receive())
        except TimeoutError:
            raise RequestTimedOut from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message


class Response:
    """Writes one answer: the start once, then body pieces. Knows whether the first byte has gone out."""

    __slots__ = ("_send", "is_started", "sent_bytes")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_started = False
        self.sent_bytes = 0

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        self.is_started = True
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers],
            }
        )

    async def write(self, body: bytes, *, more: bool) -> None:
        self.sent_bytes += len(body)
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def whole(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """Start, body and end in one."""
        headers.append(("content-length", str(len(body))))
        await self.start(status, headers)
        await self.write(body, more=False)
