"""Requests to addresses that customers chose: https, public addresses only, checked at the moment of connecting.

The name is resolved once, every address that it has must be public, and the connection goes to the address that was
checked, so that a name cannot change its mind in between. No redirect is followed, no proxy of the environment is used.
One deadline covers all of it: a server that sends a byte at a time is left when it is over.
"""

import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

from accounts.addresses import is_public

TIMEOUT_S = 5.0  # of each step
DEADLINE_S = 15.0  # of all of them
MAX_ANSWER_BYTES = 64 * 1024
PORTS = frozenset({443, 8443})
# Names that lead inside wherever they are asked: RFC 6761, 6762 and 8375, and ICANN's own for private networks.
PRIVATE_NAMES = ("localhost", "local", "internal", "home.arpa")
PRIVATE = "The host is not on the public internet."
UNRESOLVABLE = "The host name cannot be resolved."


class ForbiddenAddress(ValueError):
    """The URL is not one that we call; the message says why, for its owner."""


def check_url(url: str) -> None:
    """Refuse what cannot be called, before it is kept. Raises `ForbiddenAddress`.

    No name is resolved for it: where a name leads is checked when calling.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError:
        raise ForbiddenAddress("This is not a URL.") from None
    if parts.scheme != "https" or not parts.hostname:
        raise ForbiddenAddress("Only https:// addresses are called.")
    if parts.username or parts.password:
        raise ForbiddenAddress("Leave user names and passwords out of the address.")
    if port not in PORTS:
        raise ForbiddenAddress("Only the ports 443 and 8443 are called.")
    _check_host(parts.hostname.rstrip("."))


def resolve(host: str, port: int) -> str:
    """An address of `host`, all of whose addresses are public. Raises `ForbiddenAddress`."""
    try:
        found = _addresses(host, port)
    except (OSError, UnicodeError):
        raise ForbiddenAddress(UNRESOLVABLE) from None
    if not found or not all(is_public(address) for address in found):
        raise ForbiddenAddress(PRIVATE)
    return min(found)


def _check_host(host: str) -> None:
    """Refuse an IP address that is not public, however it is written, and names that lead inside."""
    try:
        found = _addresses(host.partition("%")[0], None, socket.AI_NUMERICHOST)
    except OSError:  # a name
        found = set()
    except ValueError:
        raise ForbiddenAddress(UNRESOLVABLE) from None
    is_private_name = any(host == name or host.endswith(f".{name}") for name in PRIVATE_NAMES)
    if is_private_name or not all(is_public(address) for address in found):
        raise ForbiddenAddress(PRIVATE)


def _addresses(host: str, port: int | None, flags: int = 0) -> set[str]:
    return {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)}


class _Timed(httpcore.NetworkStream):
    """A stream whose every step ends at `ends_at`, of the monotonic clock, however much each may take by itself."""

    def __init__(self, stream: httpcore.NetworkStream, ends_at: float) -> None:
        self._stream = stream
        self._ends_at = ends_at

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._left(timeout, httpcore.ConnectTimeout)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._ends_at)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _left(self, timeout: float | None, problem: type[Exception]) -> float:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise problem
        return left if timeout is None else min(timeout, left)


class _Guarded(httpcore.SyncBackend):
    """Connects to the address that was checked."""

    def __init__(self) -> None:
        super().__init__()
        self._ends_at = time.monotonic() + DEADLINE_S

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        if port not in PORTS:
            raise ForbiddenAddress("Only the ports 443 and 8443 are called.")
        stream = super().connect_tcp(resolve(host, port), port, timeout, local_address, socket_options)
        return _Timed(stream, self._ends_at)


def post(url: str, *, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    """(status, the answer's first 64 kB). Raises `ForbiddenAddress`, or `httpx.HTTPError` when nobody answers."""
    check_url(url)
    transport = httpx.HTTPTransport(verify=ssl.create_default_context(), trust_env=False)
    transport._pool = httpcore.ConnectionPool(ssl_context=ssl.create_default_context(), network_backend=_Guarded())
    with (
        httpx.Client(transport=transport, timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
        client.stream("POST", url, content=body, headers=headers) as answer,
    ):
        received = b""
        for piece in answer.iter_raw():
            received += piece
            if len(received) >= MAX_ANSWER_BYTES:
                break
        return answer.status_code, received[:MAX_ANSWER_BYTES]
