"""The server's HTTP/1.1: uvicorn's own, but an answer that is whole leaves in one piece.

Run as `uvicorn --http config.http_protocol:HttpProtocol`. With `--http httptools` the answers are the same.
"""

import functools
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

# As uvicorn has them: what may stand in no name, and besides its own end in no line.
_BAD_IN_NAME = re.compile(rb'[\x00-\x1f\x7f()<>@,;:\[\]={} \t\\"]')
_BAD_IN_LINES = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# They frame the answer or end the connection: left to uvicorn.
_FRAMING = frozenset({b"connection", b"transfer-encoding"})

Header = tuple[bytes, bytes]


class HttpProtocol(HttpToolsProtocol):
    """One connection of a client."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Callable[..., Awaitable[None]]) -> None:
        if not cycle.access_log and cycle.scope["method"] != "HEAD":
            app = functools.partial(_serve, app, Answer(cycle))
        super()._start_asgi_task(cycle, app)


def _serve(
    app: Callable[..., Awaitable[None]], answer: "Answer", scope: object, receive: object, _send: object
) -> Awaitable[None]:
    return app(scope, receive, answer.send)


class Answer:
    """The `send` of one request. A start that gives the length waits for the body; where that is whole, both are
    written at once: one system call and one packet where uvicorn makes two. Everything else it does itself."""

    __slots__ = ("_cycle", "_start")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._start: dict[str, Any] | None = None

    async def send(self, message: dict[str, Any]) -> None:
        """Raises `RuntimeError` for what uvicorn would not send."""
        start, self._start = self._start, None
        if start is None:
            if message["type"] == "http.response.start" and not self._cycle.response_started and _gives_length(message):
                self._start = message
                return
        else:
            is_whole = message["type"] == "http.response.body" and not message.get("more_body")
            if is_whole and self._wrote(start, message.get("body", b"")):
                return
            await self._pass(start)
        await self._pass(message)

    async def _pass(self, message: Any) -> None:
        await RequestResponseCycle.send(self._cycle, message)

    def _wrote(self, start: dict[str, Any], body: bytes) -> bool:
        """Write the whole answer; False, and nothing is written, where there is more to it than that."""
        cycle = self._cycle
        if cycle.disconnected:
            return True
        head = _head(start["status"], [*cycle.default_headers, *start.get("headers", ())], len(body))
        if head is None or cycle.flow.write_paused:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.transport.write(b"".join((head, b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", body)))
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True


def _gives_length(start: dict[str, Any]) -> bool:
    return any(name.lower() == b"content-length" for name, _ in reversed([*start.get("headers", ())]))


def _head(status: int, headers: Iterable[Header], length: int) -> bytes | None:
    """Status line and header lines; None where a header frames the answer otherwise or is not a header."""
    names, lines = [], []
    for name, value in headers:
        lower = name.lower()
        if lower in _FRAMING or (lower == b"content-length" and value != b"%d" % length):
            return None
        names.append(lower)
        lines.append(b"%b: %b\r\n" % (lower, value))
    text = b"".join(lines)
    is_fine = text.count(b"\r") == text.count(b"\n") == len(lines) and not _BAD_IN_LINES.search(text)
    return STATUS_LINE[status] + text if is_fine and not _BAD_IN_NAME.search(b"".join(names)) else None
