"""The client's end of an answer: writes with a deadline, notices that the client has gone, records for a replay."""

import asyncio

from billing.teller import StoredResponse
from proxy.gateway.patience import within
from proxy.gateway.wire import Request, Response

MAX_REPLAY_BYTES = 2 * 1024 * 1024


class Sink:
    """Writes to one client. Once it has gone, or reads nothing for `timeout_s`, writing does nothing."""

    __slots__ = ("_gone", "_limit", "_recorded", "_request", "_response", "_timeout_s", "_watch")

    def __init__(self, request: Request, response: Response, *, timeout_s: float) -> None:
        self._request = request
        self._response = response
        self._timeout_s = timeout_s
        self._gone = False
        self._watch: asyncio.Task[None] | None = None
        self._recorded: bytearray | None = None
        self._limit = 0

    @property
    def is_gone(self) -> bool:
        return self._gone or (self._watch is not None and self._watch.done())

    def watch(self) -> None:
        """Begin to notice a hang-up. On no server does `send()` raise after one; a pending `receive()` sees it."""
        self._watch = asyncio.get_running_loop().create_task(self._request.wait_for_disconnect())

    def record(self, limit: int) -> None:
        """Keep what is written, up to `limit` bytes, for the answer to a repeat of this request."""
        self._recorded, self._limit = bytearray(), limit

    def stored(self, headers: list[tuple[str, str]], last: bytes) -> StoredResponse | None:
        """The recorded stream, ended with `last`; None if it was not recorded or grew past the limit."""
        if self._recorded is None:
            return None
        return StoredResponse(200, list(headers), bytes(self._recorded) + last)

    @property
    def recorded(self) -> bytes:
        """What was written so far; nothing if it was not recorded or grew past the limit."""
        return bytes(self._recorded or b"")

    async def start(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.watch()
        await self._response.start(status, headers)

    async def write(self, data: bytes, *, more: bool = True) -> None:
        if self._recorded is not None:
            self._recorded += data
            if len(self._recorded) > self._limit:
                self._recorded = None
        if self.is_gone:
            return
        try:
            await within(self._timeout_s, self._response.write(data, more=more))
        except TimeoutError:
            self._gone = True

    async def whole(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        """A whole answer in one."""
        if self.is_gone:
            return
        try:
            await within(self._timeout_s, self._response.whole(status, headers, body))
        except TimeoutError:
            self._gone = True

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
