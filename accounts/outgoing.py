"""Requests to addresses that customers chose: https, public addresses only, checked at the moment of connecting.

The name is resolved once, every address that it has must be public, and the connection goes to the address that was
checked, so that a name cannot change its mind in between. No redirect is followed, no proxy of the environment is used.
"""

import ipaddress
import socket
import ssl
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 64 * 1024
PORTS = frozenset({443, 8443})
# Public in name, private in effect: NAT64, Teredo and 6to4 lead to IPv4 addresses of their own.
_TRANSLATED = tuple(
    ipaddress.ip_network(network) for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16")
)


class ForbiddenAddress(ValueError):
    """The URL is not one that we call; the message says why, for its owner."""


def check_url(url: str) -> None:
    """Refuse what cannot be called, before it is kept. Raises `ForbiddenAddress`. Its IP is checked when calling."""
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


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if any(ip in network for network in _TRANSLATED):
            return False
    return ip.is_global and not ip.is_multicast


def resolve(host: str, port: int) -> str:
    """An address of `host`, all of whose addresses are public. Raises `ForbiddenAddress`."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        raise ForbiddenAddress("The host name cannot be resolved.") from None
    if not found or not all(is_public(address) for address in found):
        raise ForbiddenAddress("The host is not on the public internet.")
    return min(found)


class _Guarded(httpcore.SyncBackend):
    """Connects to the address that was checked."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        return super().connect_tcp(resolve(host, port), port, timeout, local_address, socket_options)


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
