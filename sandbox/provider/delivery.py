"""Sends an answer over ASGI, or past it on the bare connection where a fault needs that."""

import asyncio
import contextlib
import gzip
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sandbox.provider.directives import Directives
from sandbox.provider.events import Event, encode, error_event

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
_FIN_GRACE_S = 0.05  # what was sent must be read before a RST throws it away
_FOREVER_S = 3600.0


class Gone(Exception):
    """The exchange ended before its answer did; `state` says how, for the journal."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


class Delivery:
    """One response. Every method raises Gone where the connection ends early."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send, directives: Directives) -> None:
        self.transport: asyncio.Transport = scope["sandbox.transport"]
        self.receive = receive
        self.asgi_send = send
        self.directives = directives
        self.gone = asyncio.Event()
        self.started = False
        self._watcher: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ whole answers
    async def json(self, status: int, value: Any, headers: Headers | None = None) -> None:
        await self.body(status, b"application/json", encode(value), headers)

    async def body(self, status: int, content_type: bytes, body: bytes, headers: Headers | None = None) -> None:
        """Send one body, with the faults that concern bodies."""
        d = self.directives
        sent = [(b"content-type", content_type), *(headers or []), *self._fillers()]
        if "empty" in d:
            body = b""
        if "bad-json" in d:
            body = body[: len(body) // 2]
        if "gzip" in d:
            body = await self._zipped(body)
            sent.append((b"content-encoding", b"gzip"))
        if "length" in d or "cut" in d or "reset" in d:
            return await self._raw(status, sent, body)
        sent.append((b"content-length", str(len(body)).encode()))
        await self.head(status, sent)
        if "drip" in d:
            for at in range(len(body)):
                await self.write(body[at : at + 1])
                await self.pause(d.seconds("drip", bare=1.0))
            return await self.finish()
        await self.write(body)
        await self.finish()

    async def _raw(self, status: int, headers: Headers, body: bytes) -> None:
        """A response written past the server: a content-length that lies, or a body that breaks off."""
        declared = len(body)
        if self.directives.get("length") == "short":
            declared = max(0, declared - 10)
        elif self.directives.get("length") == "long":
            declared += 10
        else:
            body = body[: len(body) // 2]
        lines = [b"HTTP/1.1 %d Sandbox" % status, *(name + b": " + value for name, value in headers)]
        lines.append(b"content-length: %d" % declared)
        if self.directives.get("reset") == "headers":
            body = b""
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        await self.hang_up(reset="reset" in self.directives)

    async def _zipped(self, body: bytes) -> bytes:
        size = self.directives.size("gzip")
        if size is None:
            return gzip.compress(body)
        return await asyncio.to_thread(_bomb, size)

    # ------------------------------------------------------------ streams
    async def stream(self, events: list[Event], headers: Headers, word_delay_s: float) -> None:
        """Send events as a model would produce them, with the faults that concern streams."""
        d = self.directives
        sent = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        packer = zlib.compressobj(wbits=31) if "gzip" in d else None
        if packer is not None:
            sent.append((b"content-encoding", b"gzip"))
        await self.head(200, [*sent, *headers, *self._fillers()])
        if d.get("reset") == "headers":
            await self.write(b"")
            await self.hang_up(reset=True)
        bomb = d.size("gzip")
        if bomb is not None:
            await self.write(await asyncio.to_thread(_bomb, bomb))
            return await self.finish()
        number = 0
        for event in [] if "empty" in d else events:
            if event.is_content:
                number += 1
                if number > 1 or "drip" in d:
                    await self.pause(word_delay_s)
                await self._cut_inside(event, number)
            await self._write_event(event.data, packer)
            if event.is_content and await self._ends_after(number):
                return await self.finish()
        if packer is not None:
            await self.write(packer.flush())
        await self.finish()

    async def _write_event(self, data: bytes, packer: Any) -> None:
        if packer is not None:
            data = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
        if "drip" not in self.directives:
            return await self.write(data)
        for at in range(len(data)):
            await self.write(data[at : at + 1])
            await self.pause(self.directives.seconds("drip", bare=1.0))

    async def _cut_inside(self, event: Event, number: int) -> None:
        place, at = self.directives.inside("cut") or ("", 0)
        if at != number:
            return
        ends = {"data": 3, "json": len(event.data) // 2, "utf8": event.data.find("é".encode()) + 1}
        await self.write(event.data[: ends.get(place, 3)])
        await self.hang_up()

    async def _ends_after(self, number: int) -> bool:
        """Whether the stream ends cleanly here; does not return where it ends otherwise."""
        d = self.directives
        if d.number("cut") == number:
            await self.hang_up()
        if d.number("reset") == number:
            await self.hang_up(reset=True)
        if d.number("stall") == number:
            await self.pause(_FOREVER_S)
        if d.number("error") == number:
            await self.write(error_event())
            return True
        return d.number("end") == number

    # ------------------------------------------------------------ the connection
    async def head(self, status: int, headers: Headers) -> None:
        await self.asgi_send({"type": "http.response.start", "status": status, "headers": headers})
        self.started = True
        self.watch()
        if self.directives.get("hang") == "headers":
            await self.write(b"")
            await self.pause(_FOREVER_S)

    async def write(self, data: bytes) -> None:
        if self.gone.is_set():
            raise Gone("disconnected")
        await self.asgi_send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self) -> None:
        if self.gone.is_set():
            raise Gone("disconnected")
        await self.asgi_send({"type": "http.response.body", "body": b"", "more_body": False})

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than the client does."""
        self.watch()
        if seconds <= 0:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.gone.wait(), seconds)
        if self.gone.is_set():
            raise Gone("disconnected")

    async def hang_up(self, *, reset: bool = False) -> None:
        """Close the connection in the middle, politely (FIN) or not (RST)."""
        self.watch()
        await asyncio.sleep(_FIN_GRACE_S)
        if reset:
            connection: socket.socket = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()
        await self.gone.wait()  # the server must know before we return, or it would add a response of its own
        raise Gone("cut")

    def watch(self) -> None:
        """Notice when the client leaves; the body must have been read."""
        if self._watcher is None:
            self._watcher = asyncio.ensure_future(self._wait_for_disconnect())

    async def _wait_for_disconnect(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.gone.set()

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)

    def _fillers(self) -> Headers:
        return [(b"x-filler-%d" % n, b"x" * 20) for n in range(self.directives.number("headers") or 0)]


def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    block = b" " * 1024**2
    return b"".join(packer.compress(block) for _ in range(size // len(block))) + packer.flush()
