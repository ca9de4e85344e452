"""The client that calls providers, behind a small interface so that a faster one can take its place."""

import asyncio
from collections.abc import AsyncIterable, Mapping
from typing import Protocol

import aiohttp

CONNECT_TIMEOUT_S = 5.0


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


class AiohttpAnswer:
    """An `aiohttp.ClientResponse` as an `Answer`."""

    __slots__ = ("_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers  # CIMultiDict: any case

    async def chunk(self, timeout_s: float) -> bytes:
        content = self._response.content
        try:
            async with asyncio.timeout(timeout_s):
                return await content.readany()
        except TimeoutError:
            raise TimedOut from None
        except (aiohttp.ClientError, OSError) as error:
            raise Disconnected(type(error).__name__) from None

    async def read(self, *, limit: int, timeout_s: float) -> bytes:
        content = self._response.content
        try:
            async with asyncio.timeout(timeout_s):
                first = await content.readany()
                if content.at_eof():
                    body = first
                else:
                    parts = bytearray(first)
                    while piece := await content.readany():
                        parts += piece
                        if len(parts) > limit:
                            raise AnswerTooLarge
                    body = bytes(parts)
        except TimeoutError:
            raise TimedOut from None
        except (aiohttp.ClientError, OSError) as error:
            raise Disconnected(type(error).__name__) from None
        if len(body) > limit:
            raise AnswerTooLarge
        return body

    def close(self) -> None:
        if self._response.content.is_eof():
            self._response.release()
        else:
            self._response.close()


class AiohttpClient:
    """The client on aiohttp: kept-alive connections, one deadline for the status line, a bounded read buffer."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30, enable_cleanup_closed=False),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            read_bufsize=256 * 1024,
            trust_env=False,
        )

    async def post(
        self, url: str, *, headers: dict[str, str], body: bytes | AsyncIterable[bytes], timeout_s: float
    ) -> AiohttpAnswer:
        return await self._send("POST", url, headers, body, timeout_s)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str],
        timeout_s: float,
        body: bytes | AsyncIterable[bytes] | None = None,
    ) -> AiohttpAnswer:
        return await self._send(method, url, headers, body, timeout_s)

    async def _send(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | AsyncIterable[bytes] | None,
        timeout_s: float,
    ) -> AiohttpAnswer:
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._session.request(method, url, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ConnectionTimeoutError, TimeoutError) as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                raise ConnectFailed("timeout") from None
            raise TimedOut from None
        except aiohttp.ClientConnectorError as error:
            raise ConnectFailed(type(error).__name__) from None
        except aiohttp.ServerDisconnectedError:
            stale = Disconnected("ServerDisconnectedError")
            stale.is_stale = True
            raise stale from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Disconnected(type(error).__name__) from None
        return AiohttpAnswer(response)

    async def close(self) -> None:
        await self._session.close()
