"""Who calls: the key of a request and what it may do."""

from typing import Protocol

from proxy.gateway.errors import AddressNotAllowed, Forbidden, ModelNotAllowed, ScopeMissing, Unauthenticated
from proxy.gateway.snapshots import Key
from proxy.gateway.wire import Request

MAX_CREDENTIAL = 256


class Keyring(Protocol):
    """The live keys. Revocations arrive within a second."""

    async def find(self, secret: str) -> Key | None:
        """The key with this secret; None if there is none or it is revoked or expired. Raises `Unavailable`."""

    async def find_digest(self, digest: str) -> Key | None:
        """The same for what only knows the secret's digest."""

    def is_revoked(self, key_id: int) -> bool:
        """Whether the key was revoked, or its organization frozen, while requests of it are in flight."""

    def is_ended(self, key: Key, since: float) -> bool:
        """The same of the key or pass of a request that came at `since` (performance counter): a pass also ends when
        its holder leaves."""


async def authenticate(request: Request, keyring: Keyring) -> Key:
    """The key that `request` carries, by any of the three headers. Raises `Unauthenticated`."""
    secret = credential(request)
    if not secret:
        raise Unauthenticated(
            "You didn't provide an API key. Send it in the Authorization header: 'Authorization: Bearer YOUR_KEY'."
        )
    key = await keyring.find(secret) if len(secret) <= MAX_CREDENTIAL and secret.isascii() else None
    if key is None:
        raise Unauthenticated(f"Incorrect API key provided: {mask(secret)}. It is unknown, revoked or expired.")
    return key


def credential(request: Request) -> str:
    """The secret from `Authorization: Bearer`, `api-key` or `x-api-key`, the first that is there; "" if none is."""
    authorization = request.headers.get("authorization")
    if authorization is not None:
        scheme, _, secret = authorization.partition(" ")
        return secret.strip() if scheme.lower() == "bearer" else ""
    return (request.headers.get("api-key") or request.headers.get("x-api-key") or "").strip()


def mask(secret: str) -> str:
    """A secret as an error may show it."""
    printable = "".join(character if character.isascii() and character.isprintable() else "?" for character in secret)
    return f"{printable[:7]}…{printable[-4:]}" if len(printable) > 16 else "…"


def authorize(key: Key, endpoint_path: str, scope: str, request: Request, *, trusted_proxies: int) -> None:
    """Check scope, endpoint and address. Raises a `Forbidden`."""
    if not key.is_active:
        raise Forbidden("This organization is not active.", code="organization_inactive")
    if key.scopes and scope not in key.scopes:
        raise ScopeMissing(scope)
    if key.allowed_endpoints and endpoint_path not in key.allowed_endpoints:
        raise Forbidden(f"This API key may not use {endpoint_path}.", code="endpoint_not_allowed")
    if key.allowed_networks:
        address = request.client_address(trusted_proxies)
        if address is None or not any(address in network for network in key.allowed_networks):
            raise AddressNotAllowed


def authorize_model(key: Key, *names: str) -> None:
    """Check the model allow-list against the name asked for and the model that it stands for."""
    if key.allowed_models and not key.allowed_models.intersection(names):
        raise ModelNotAllowed(names[0])
