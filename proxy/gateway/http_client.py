"""The client that calls providers: HTTP/1.1 on httptools, with a pool of kept-alive connections."""

import asyncio
import base64
import functools
import re
import socket
import ssl
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import structlog
from aiohappyeyeballs import start_connection

from accounts.addresses import is_public
from proxy.gateway.http_connection import Connection, HttpAnswer
from proxy.gateway.upstream import ConnectFailed, Disconnected, TimedOut, UpstreamError

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S = 5.0
HAPPY_EYEBALLS_S = 0.25
KEEP_ALIVE_S = 30.0
MAX_IDLE = 512  # of each origin
ADDRESSES_KEPT_S = 10.0

# Methods that may be sent again where nobody knows whether the first was heard (RFC 9110, 9.2.2).
_IDEMPOTENT = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PUT"})
_BODILESS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS"})
_SAFE_IN_TARGET = "/:@!$&'()*+,;=~-._%?"
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

Origin = tuple[bool, str, int]


class HttpClient:
    """A `Client`. `tls` is for tests; by default the machine's authorities (or SSL_CERT_FILE's) are trusted.

    A host of which `may_be_private` says no is called on the open internet alone: one private address among those that
    its name has, and it is refused.
    """

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, may_be_private: Callable[[str], bool] = lambda host: True
    ) -> None:
        self._tls = tls
        self._may_be_private = may_be_private
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._lookups: dict[tuple[str, int], _Lookup] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def post(
        self, url: str, *, headers: dict[str, str], body: bytes | AsyncIterable[bytes], timeout_s: float
    ) -> HttpAnswer:
        return await self.request("POST", url, headers=headers, timeout_s=timeout_s, body=body)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        timeout_s: float,
        body: bytes | AsyncIterable[bytes] | None = None,
    ) -> HttpAnswer:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        try:
            message = _message(method, url, headers, body)
        except ValueError as error:
            raise Disconnected(type(error).__name__) from None
        try:
            return await self._exchange(message, deadline)
        except Disconnected as error:
            if not error.is_stale or method not in _IDEMPOTENT or not (body is None or isinstance(body, bytes)):
                raise
        return await self._exchange(message, deadline)

    async def close(self) -> None:
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for lookup in self._lookups.values():
            lookup.task.cancel()
        for connection in list(self._open):
            connection.abort()
        self._idle.clear()
        for _ in range(2):  # the transports tell their protocols in the loop's next turn
            await asyncio.sleep(0)

    async def _exchange(self, message: "_Message", deadline: float) -> HttpAnswer:
        connection = self._take(message.origin) or await self._connect(message.origin, deadline)
        answer = connection.ask(message.head, message.body, length=message.length, is_head=message.is_head)
        try:
            await answer.begin(deadline)
        except BaseException as error:
            answer.close()
            if isinstance(error, UpstreamError) and error.is_stale:
                self._forget_idle(message.origin)  # the upstream restarted: the others are gone as well
            raise
        return answer

    # ------------------------------------------------------------ connections

    def _take(self, origin: Origin) -> Connection | None:
        """The idle connection that was used last: those that are too many grow old."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                return connection
        return None

    def _keep(self, connection: Connection) -> None:
        idle = self._idle.setdefault(connection.origin, [])
        if self._is_closed or len(idle) >= MAX_IDLE:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        idle.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(KEEP_ALIVE_S / 2, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - KEEP_ALIVE_S
        for origin, idle in list(self._idle.items()):
            fresh = [connection for connection in idle if connection.idle_since > oldest]
            for connection in idle:
                if connection.idle_since <= oldest:
                    connection.close()
            if fresh:
                self._idle[origin] = fresh
            else:
                del self._idle[origin]
        self._sweeper = loop.call_later(KEEP_ALIVE_S / 2, self._sweep) if self._idle else None

    def _forget_idle(self, origin: Origin) -> None:
        for connection in self._idle.pop(origin, []):
            connection.close()

    def _lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)

    async def _connect(self, origin: Origin, deadline: float) -> Connection:
        if self._is_closed:
            raise ConnectFailed("closed")
        left_s = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(left_s, CONNECT_TIMEOUT_S)):
                return await self._dial(origin)
        except TimeoutError:
            raise (TimedOut() if left_s < CONNECT_TIMEOUT_S else ConnectFailed("timeout")) from None
        except (OSError, ssl.CertificateError, UnicodeError) as error:
            raise ConnectFailed(type(error).__name__) from None

    async def _dial(self, origin: Origin) -> Connection:
        is_tls, host, port = origin
        loop = asyncio.get_running_loop()
        addresses = await self._resolve(host, port)
        if not self._may_be_private(host) and not all(is_public(address[4][0]) for address in addresses):
            log.warning("private_address_refused", host=host)
            raise ConnectFailed("private address")
        sock = await start_connection(addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_S, interleave=1, loop=loop)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            _, connection = await loop.create_connection(
                lambda: Connection(origin, loop, on_free=self._keep, on_lost=self._lost),
                sock=sock,
                ssl=self._context() if is_tls else None,
                server_hostname=host.rstrip(".") if is_tls else None,
            )
        except BaseException:
            sock.close()
            raise
        self._open.add(connection)
        return connection

    async def _resolve(self, host: str, port: int) -> list[Any]:
        """The host's addresses, asked for once by all who wait for them, and known for a moment."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._lookups = {name: lookup for name, lookup in self._lookups.items() if lookup.until > now}
        lookup = self._lookups.get((host, port))
        if lookup is None or lookup.has_failed:
            lookup = self._lookups[host, port] = _Lookup(now + ADDRESSES_KEPT_S, loop.create_task(_look_up(host, port)))
        return await asyncio.shield(lookup.task)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


@dataclass(frozen=True, slots=True)
class _Lookup:
    until: float
    task: "asyncio.Task[list[Any]]"

    @property
    def has_failed(self) -> bool:
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)


async def _look_up(host: str, port: int) -> list[Any]:
    loop = asyncio.get_running_loop()
    return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)


@dataclass(frozen=True, slots=True)
class _Message:
    """A request as it goes out. `length` is that of a body in pieces; -1: it goes in chunks."""

    origin: Origin
    head: bytes
    body: bytes | AsyncIterable[bytes] | None
    length: int
    is_head: bool


@dataclass(frozen=True, slots=True)
class _Address:
    """What a URL says: whom to call, the `host` header, the request target, and its credentials, packed."""

    origin: Origin
    host: str
    target: str
    credentials: str


@functools.lru_cache(maxsize=1024)
def _address(url: str) -> _Address:
    """Raises `ValueError`. Whatever may not stand in a request line is escaped."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("url")
    is_tls = parts.scheme == "https"
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    usual = 443 if is_tls else 80
    port = parts.port or usual
    shown = f"[{host}]" if ":" in host else host
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = quote(_BAD_ESCAPE.sub("%25", target), safe=_SAFE_IN_TARGET)
    credentials = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = base64.b64encode(pair.encode()).decode()
    return _Address((is_tls, host, port), shown if port == usual else f"{shown}:{port}", target, credentials)


def _message(method: str, url: str, headers: dict[str, str], body: bytes | AsyncIterable[bytes] | None) -> _Message:
    """Raises `ValueError` where the request could be read as anything else."""
    address = _address(url)
    lines = [f"{method} {address.target} HTTP/1.1", f"host: {address.host}"]
    length = -1
    for name, value in headers.items():
        if name == "content-length":
            length = int(value)
        else:
            lines.append(f"{name}: {value}")
    if address.credentials and "authorization" not in headers:
        lines.append(f"authorization: Basic {address.credentials}")
    if body is None or isinstance(body, bytes):
        if body or method not in _BODILESS:
            lines.append(f"content-length: {len(body or b'')}")
    else:
        lines.append(f"content-length: {length}" if length >= 0 else "transfer-encoding: chunked")
    head = "\r\n".join(lines)
    breaks = len(lines) - 1
    if head.count("\n") != breaks or head.count("\r") != breaks or "\0" in head:
        raise ValueError("a line break in a header")
    return _Message(address.origin, f"{head}\r\n\r\n".encode("latin-1"), body, length, method == "HEAD")
