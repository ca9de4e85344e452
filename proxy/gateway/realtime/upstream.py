"""The provider's end of a session, behind a small interface."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from accounts.addresses import is_public
from proxy.gateway.providers import headers_of, url_of
from proxy.gateway.realtime.client import ABNORMAL, NO_STATUS, Frame
from proxy.gateway.snapshots import Deployment
from proxy.gateway.upstream import ConnectFailed, Disconnected, TimedOut, UpstreamError

PATH = "/v1/realtime"
HEARTBEAT_S = 30.0
CLOSE_S = 2.0


class UpstreamClosed(Exception):
    """The provider closed the connection, or it broke (1006)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(str(code))
        self.code = code
        self.reason = reason


class HandshakeRefused(UpstreamError):
    """The provider answered a status other than 101."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


class UpstreamSocket(Protocol):
    """A WebSocket to a provider. One task reads, one writes; pings are answered below this."""

    async def receive(self) -> Frame:
        """The next frame. Raises `UpstreamClosed`."""

    async def send(self, frame: Frame) -> None:
        """Returns when there is room again. Raises `UpstreamClosed`."""

    async def close(self, code: int) -> None:
        """May be called twice."""


class Sockets(Protocol):
    """Opens sockets."""

    async def open(self, deployment: Deployment, *, timeout_s: float) -> UpstreamSocket:
        """Raises `ConnectFailed`, `TimedOut`, `Disconnected` or `HandshakeRefused`."""

    async def close(self) -> None: ...


def address_of(deployment: Deployment) -> str:
    """Where `deployment` speaks Realtime; the scheme is that of HTTP, which aiohttp upgrades."""
    name = quote(deployment.upstream_name, safe="")
    is_classic = deployment.kind == "azure" and not deployment.base_url.endswith("/v1")
    return url_of(deployment, PATH, query=f"deployment={name}" if is_classic else f"model={name}")


class AiohttpSocket:
    """An `aiohttp.ClientWebSocketResponse` as an `UpstreamSocket`."""

    __slots__ = ("_socket",)

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> Frame:
        message = await self._socket.receive()
        if message.type in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
            frame: Frame = message.data
            return frame
        if message.type is aiohttp.WSMsgType.CLOSE:
            raise UpstreamClosed(message.data or NO_STATUS, message.extra or "")
        raise UpstreamClosed(self._socket.close_code or ABNORMAL, "")

    async def send(self, frame: Frame) -> None:
        try:
            if isinstance(frame, str):
                await self._socket.send_str(frame)
            else:
                await self._socket.send_bytes(frame)
        except (aiohttp.ClientError, OSError):
            raise UpstreamClosed(self._socket.close_code or ABNORMAL, "") from None

    async def close(self, code: int) -> None:
        await self._socket.close(code=code)


class PrivateAddress(OSError):
    """A host that has to be on the open internet has an address that is not."""


class PublicResolver(ThreadedResolver):
    """The machine's own look-up, but for hosts with a private address that may have none."""

    def __init__(self, may_be_private: Callable[[str], bool]) -> None:
        super().__init__()
        self._may_be_private = may_be_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        if not self._may_be_private(host) and not all(is_public(one["host"]) for one in found):
            raise PrivateAddress
        return found

    def check_literal(self, host: str) -> None:
        """The same for an address in place of a name, which aiohttp does not look up. Raises `PrivateAddress`."""
        with contextlib.suppress(ValueError):
            if not self._may_be_private(host) and not is_public(host):
                raise PrivateAddress


class AiohttpSockets:
    """Sockets on aiohttp: no compression, a bounded read buffer, pings that find a dead peer.

    Hosts of which `may_be_private` says no are called on the open internet alone, as by `HttpClient`.
    """

    def __init__(self, *, max_frame_bytes: int, may_be_private: Callable[[str], bool] = lambda host: True) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._resolver = PublicResolver(may_be_private)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, resolver=self._resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent",),
            trust_env=False,
        )

    async def open(self, deployment: Deployment, *, timeout_s: float) -> AiohttpSocket:
        headers = headers_of(deployment)
        del headers["accept-encoding"]
        try:
            self._resolver.check_literal(urlsplit(deployment.base_url).hostname or "")
            async with asyncio.timeout(timeout_s):
                socket = await self._session.ws_connect(
                    URL(address_of(deployment), encoded=True),
                    headers=headers,
                    compress=0,
                    max_msg_size=self._max_frame_bytes,
                    heartbeat=HEARTBEAT_S,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                )
        except TimeoutError:
            raise TimedOut from None
        except aiohttp.WSServerHandshakeError as error:
            raise HandshakeRefused(error.status) from None
        except (aiohttp.ClientConnectorError, PrivateAddress) as error:
            raise ConnectFailed(type(error).__name__) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Disconnected(type(error).__name__) from None
        return AiohttpSocket(socket)

    async def close(self) -> None:
        await self._session.close()
