"""Who calls the management API: an API key, read from the same headers and looked up by the same digest as `/v1`'s."""

from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request as ApiRequest

from accounts import key_format
from accounts.models import ApiKey, Organization
from proxy.api.errors import NO_KEY
from proxy.gateway import keys
from proxy.gateway.errors import Unauthenticated
from proxy.gateway.snapshots import Key
from proxy.gateway.wire import Request
from proxy.keyring import snapshot_of

SCOPE = "management"


@dataclass(frozen=True, slots=True)
class Caller:
    """A live key: its row, the organization that it acts for, and what the gateway knows of it."""

    row: ApiKey
    key: Key
    is_authenticated: bool = True

    @property
    def organization(self) -> Organization:
        return self.row.organization

    @property
    def pk(self) -> str:
        return f"key-{self.key.id}"


class KeyAuthentication(BaseAuthentication):
    """`request.user` becomes a `Caller`. Raises `Unauthenticated`."""

    def authenticate(self, request: ApiRequest) -> tuple[Caller, None]:
        secret = keys.credential(wire_request(request))
        if not secret:
            raise Unauthenticated(NO_KEY)
        row = _find(secret)
        if row is None:
            raise Unauthenticated(
                f"Incorrect API key provided: {keys.mask(secret)}. It is unknown, revoked or expired."
            )
        return Caller(row, snapshot_of(row)), None

    def authenticate_header(self, request: ApiRequest) -> str:
        return "Bearer"


class MayManage(BasePermission):
    """A key with the scope `management`, or with none at all, from an address that it may be used from.

    Its allow-list of endpoints is about what is metered, and does not close this API.
    """

    scope = SCOPE

    def has_permission(self, request: ApiRequest, view: Any) -> bool:
        """Raises the `Forbidden` that says why not."""
        wire = wire_request(request)
        guarded = replace(request.user.key, allowed_endpoints=frozenset())
        if not self.scope:
            guarded = replace(guarded, scopes=frozenset())
        keys.authorize(guarded, request.path, self.scope, wire, trusted_proxies=settings.ALLAUTH_TRUSTED_PROXY_COUNT)
        return True


class AnyKey(MayManage):
    """Any live key from an address that it may be used from: for what a key may know of itself."""

    scope = ""


def wire_request(request: Any) -> Request:
    """A Django request as the gateway reads one: headers and address, no body."""
    headers = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in request.headers.items()]
    scope = {
        "method": request.method,
        "path": request.path,
        "headers": headers,
        "client": (request.META.get("REMOTE_ADDR", ""), 0),
    }
    return Request(scope, _no_body)


async def _no_body() -> Any:
    raise RuntimeError("the body is Django's")


def _find(secret: str) -> ApiKey | None:
    if len(secret) > keys.MAX_CREDENTIAL or not secret.isascii() or not key_format.is_well_formed(secret):
        return None
    digest = key_format.digest_of(secret, settings.API_KEY_PEPPER)
    return ApiKey.objects.live().select_related("organization__transcript_settings").filter(digest=digest).first()
