"""What the gateway asks of the client that calls providers (`http_client.py`), so that tests can put another there."""

from collections.abc import AsyncIterable, Mapping
from typing import Protocol


class UpstreamError(Exception):
    """The provider could not be reached or broke off; `is_stale` when a kept-alive connection was already closed."""

    is_stale = False


class ConnectFailed(UpstreamError):
    """No connection: nothing was sent."""


class Disconnected(UpstreamError):
    """The connection closed before the answer was whole."""


class TimedOut(UpstreamError):
    """A deadline passed."""


class AnswerTooLarge(UpstreamError):
    """The answer is longer than we are willing to hold in memory."""


class Answer(Protocol):
    """An upstream's answer whose headers have come. Names of headers are lower case."""

    status: int
    headers: Mapping[str, str]

    async def chunk(self, timeout_s: float) -> bytes:
        """The next piece of the body as it arrived, b"" at its end. Raises `TimedOut`; another call may follow that."""

    async def read(self, *, limit: int, timeout_s: float) -> bytes:
        """The whole body. Raises `AnswerTooLarge`, `TimedOut`, `Disconnected`."""

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it. May be called twice."""


class Finished:
    """An answer that has been read to its end already."""

    status = 200
    headers: Mapping[str, str] = {}

    async def chunk(self, timeout_s: float) -> bytes:
        return b""

    async def read(self, *, limit: int, timeout_s: float) -> bytes:
        return b""

    def close(self) -> None: ...


class Client(Protocol):
    """Sends one request. Follows no redirect, reads no proxy settings, keeps no cookies."""

    async def post(
        self, url: str, *, headers: dict[str, str], body: bytes | AsyncIterable[bytes], timeout_s: float
    ) -> Answer:
        """Raises `ConnectFailed`, `Disconnected` or `TimedOut` when no status line comes within `timeout_s`."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        timeout_s: float,
        body: bytes | AsyncIterable[bytes] | None = None,
    ) -> Answer:
        """The same by any method."""

    async def close(self) -> None: ...
