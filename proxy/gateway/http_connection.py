"""One connection to an upstream that speaks HTTP/1.1: llhttp parses, this module says when an answer is whole.

A request is written, its answer is read, then the next; never two at once. Whatever does not fit - bytes that nobody
asked for, two ways to tell a length, headers without end - closes the connection.
"""

import asyncio
import zlib
from collections.abc import AsyncIterable, Callable, Mapping
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from proxy.gateway.upstream import AnswerTooLarge, Disconnected, TimedOut

MAX_HEAD_BYTES = 64 * 1024
# Reading stops while this much of a body waits for its reader.
MAX_WAITING_BYTES = 256 * 1024
MAX_INFLATED_BYTES = 256 * 1024
_ZIPPED = frozenset({"gzip", "x-gzip", "deflate"})
_EITHER_ZIP = 32 + zlib.MAX_WBITS


class HttpAnswer:
    """An `Answer` that a connection fills."""

    __slots__ = (
        "_connection",
        "_error",
        "_inflater",
        "_loop",
        "_pieces",
        "_waiter",
        "headers",
        "is_whole",
        "status",
        "waiting_bytes",
    )  # fmt: skip

    def __init__(self, connection: "Connection", loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.is_whole = False
        self.waiting_bytes = 0
        self._connection: Connection | None = connection
        self._loop = loop
        self._pieces: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self._inflater: Inflater | None = None

    # ------------------------------------------------------------ for its reader

    async def begin(self, deadline: float) -> None:
        """Return once the headers are there. Raises `Disconnected`, `TimedOut` or what the request's body raised."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait(deadline)

    async def chunk(self, timeout_s: float) -> bytes:
        if self._inflater is not None:
            return await self._inflated(self._inflater, self._loop.time() + timeout_s)
        if self._pieces or self.is_whole:
            return self._take()
        return await self._next(self._loop.time() + timeout_s)

    async def read(self, *, limit: int, timeout_s: float) -> bytes:
        if self.is_whole and self._inflater is None:
            body = self._take()
        else:
            deadline = self._loop.time() + timeout_s
            body = await self._piece(deadline)
            if not self.is_whole or self._pieces or self._inflater is not None:
                pieces, size = [body], len(body)
                while size <= limit and (piece := await self._piece(deadline)):
                    pieces.append(piece)
                    size += len(piece)
                body = b"".join(pieces)
        if len(body) > limit:
            raise AnswerTooLarge
        return body

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    async def _piece(self, deadline: float) -> bytes:
        return await (self._next(deadline) if self._inflater is None else self._inflated(self._inflater, deadline))

    async def _next(self, deadline: float) -> bytes:
        """All that waits, b"" at the end."""
        while not self._pieces and not self.is_whole:
            if self._error is not None:
                raise self._error
            await self._wait(deadline)
        return self._take()

    async def _inflated(self, inflater: "Inflater", deadline: float) -> bytes:
        while not (piece := inflater.take()):
            zipped = await self._next(deadline)
            if not zipped:
                inflater.end()
                return b""
            inflater.feed(zipped)
        return piece

    def _take(self) -> bytes:
        pieces = self._pieces
        if not pieces:
            return b""
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._pieces = []
        self.waiting_bytes = 0
        if self._connection is not None:
            self._connection.read_on()
        return body

    async def _wait(self, deadline: float) -> None:
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_at(deadline, _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    # ------------------------------------------------------------ for its connection

    def begun(self, status: int, headers: dict[str, str]) -> None:
        self.headers = headers
        coding = headers.get("content-encoding", "identity").strip().lower()
        if coding in _ZIPPED:
            self._inflater = Inflater()
        elif coding not in {"identity", ""}:
            raise ValueError("content-encoding")
        self.status = status
        self._wake()

    def feed(self, data: bytes) -> None:
        self._pieces.append(data)
        self.waiting_bytes += len(data)
        self._wake()

    def end(self) -> None:
        """The body is whole; the connection is no longer this answer's."""
        self.is_whole = True
        self._connection = None
        self._wake()

    def fail(self, error: Exception) -> None:
        """What has come can still be read; then `error` is raised."""
        self._error = error
        self._connection = None
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)


class Inflater:
    """Unpacks gzip or deflate in pieces of a bounded size, however small the packed ones are."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_EITHER_ZIP)
        self._zipped = b""
        self._is_begun = False

    def feed(self, data: bytes) -> None:
        self._zipped += data
        self._is_begun = True

    def take(self) -> bytes:
        """The next piece, b"" where more must be fed. Raises `Disconnected` when it is no such stream."""
        try:
            piece = self._inner.decompress(self._zipped, MAX_INFLATED_BYTES)
        except zlib.error:
            raise Disconnected("content-encoding") from None
        self._zipped = self._inner.unconsumed_tail
        if self._inner.eof and self._inner.unused_data:  # another member follows
            self._zipped, self._inner = self._inner.unused_data, zlib.decompressobj(_EITHER_ZIP)
            return piece or self.take()
        return piece

    def end(self) -> None:
        """Raises `Disconnected` when the stream was not whole."""
        if self._is_begun and not self._inner.eof:
            raise Disconnected("content-encoding")


class Connection(asyncio.Protocol):
    """`on_free` is called when it can take another request, `on_lost` once when it is gone."""

    __slots__ = (
        "_answer",
        "_body",
        "_has_received",
        "_head_bytes",
        "_headers",
        "_is_head",
        "_is_interim",
        "_is_paused",
        "_is_reused",
        "_loop",
        "_on_free",
        "_on_lost",
        "_parser",
        "_silent_bytes",
        "_transport",
        "_writable",
        "idle_since",
        "is_lost",
        "origin",
    )  # fmt: skip

    def __init__(
        self,
        origin: tuple[bool, str, int],
        loop: asyncio.AbstractEventLoop,
        *,
        on_free: "Callable[[Connection], None]",
        on_lost: "Callable[[Connection], None]",
    ) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self.is_lost = False
        self._loop = loop
        self._on_free = on_free
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._answer: HttpAnswer | None = None
        self._body: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._headers: dict[str, str] = {}
        self._head_bytes = self._silent_bytes = 0
        self._is_head = self._is_interim = self._is_paused = self._is_reused = self._has_received = False

    # ------------------------------------------------------------ for the client

    def ask(self, head: bytes, body: bytes | AsyncIterable[bytes] | None, *, length: int, is_head: bool) -> HttpAnswer:
        """Write a request. A body in pieces has `length` bytes; -1: it goes in chunks."""
        transport = cast(asyncio.Transport, self._transport)
        answer = self._answer = HttpAnswer(self, self._loop)
        self._is_head = is_head
        self._headers = {}
        self._head_bytes = self._silent_bytes = 0
        self._has_received = False
        if body is None or isinstance(body, bytes):
            transport.write(head + body if body else head)
        else:
            transport.write(head)
            self._body = self._loop.create_task(self._send(answer, body, length))
        return answer

    def close(self) -> None:
        """Say goodbye. Only while idle."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_usable(self) -> bool:
        return not self.is_lost and self._transport is not None and not self._transport.is_closing()

    def read_on(self) -> None:
        if self._is_paused and self._transport is not None and not self.is_lost:
            self._is_paused = False
            self._transport.resume_reading()

    # ------------------------------------------------------------ the request's body

    async def _send(self, answer: HttpAnswer, body: AsyncIterable[bytes], length: int) -> None:
        """Write the pieces as fast as the upstream takes them. An early answer does not end it: closing that does."""
        sent = 0
        try:
            async for piece in body:
                if not piece:
                    continue
                sent += len(piece)
                if 0 <= length < sent:
                    raise Disconnected("the body is longer than it was said to be")
                if not await self._write(piece if length >= 0 else b"%x\r\n%s\r\n" % (len(piece), piece)):
                    return
            if length < 0:
                await self._write(b"0\r\n\r\n")
            elif sent < length:
                raise Disconnected("the body is shorter than it was said to be")
        except Exception as error:
            self._break(Disconnected("the body broke off") if answer.status else error)
        finally:
            self._body = None

    async def _write(self, data: bytes) -> bool:
        """Whether there is anybody to write to; returns when there is room for more."""
        if not self.is_usable:
            return False
        cast(asyncio.Transport, self._transport).write(data)
        if self._writable is not None:
            await self._writable
        return True

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # ------------------------------------------------------------ the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._has_received = True
        self._silent_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._break(Disconnected("malformed answer"))
            return
        answer = self._answer
        if self._silent_bytes > MAX_HEAD_BYTES:
            self._break(Disconnected("headers too large"))
        elif answer is not None and answer.waiting_bytes > MAX_WAITING_BYTES and not self._is_paused:
            self._is_paused = True
            cast(asyncio.Transport, self._transport).pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        answer, self._answer = self._answer, None
        if self._body is not None:
            self._body.cancel()
        self.resume_writing()
        if answer is not None:
            if exc is None and answer.status and self._ends_with_connection():
                answer.end()
            else:
                error = Disconnected("closed by the upstream")
                error.is_stale = self._is_reused and not self._has_received
                answer.fail(error)
        self._transport = None
        self._on_lost(self)

    def _break(self, error: Exception) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.fail(error)
        self.abort()

    # ------------------------------------------------------------ the parser

    def on_message_begin(self) -> None:
        if self._answer is None:
            raise ValueError("nobody asked")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("headers too large")
        answer = self._answer
        if answer is None or answer.status:
            return  # a trailer
        key = name.decode("latin-1").lower()
        if key in self._headers and key == "transfer-encoding":
            raise ValueError("two codings")
        self._headers.setdefault(key, value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        answer = self._answer
        if answer is None:
            return
        status, headers = self._parser.get_status_code(), self._headers
        if status < 200:
            if status < 100 or status == 101 or "content-length" in headers or "transfer-encoding" in headers:
                raise ValueError("odd interim answer")
            self._is_interim = True
            self._headers = {}
            return
        if headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
            raise ValueError("unknown coding")
        self._silent_bytes = 0
        answer.begun(status, headers)
        if self._is_head:
            self._answer = None
            answer.end()
            self.abort()

    def on_body(self, data: bytes) -> None:
        self._silent_bytes = 0
        if self._answer is not None:
            self._answer.feed(data)

    def on_message_complete(self) -> None:
        if self._is_interim:
            self._is_interim = False
            return
        answer, self._answer = self._answer, None
        if answer is None:
            return
        self._silent_bytes = 0
        answer.end()
        transport = cast(asyncio.Transport, self._transport)
        is_sent = self._body is None and not transport.get_write_buffer_size()
        if is_sent and self._parser.should_keep_alive():
            self.read_on()
            self._is_reused = True
            self._on_free(self)
        else:
            self.abort()

    def _ends_with_connection(self) -> bool:
        return "content-length" not in self._headers and "transfer-encoding" not in self._headers


def _expire(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_exception(TimedOut())
