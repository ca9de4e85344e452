"""Who may use `/v1/admin`: the operator's own programs by `X-Admin-Token`, staff by a key with the scope `admin`, or by
an access token of theirs."""

import hmac
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import authentication_classes, permission_classes, throttle_classes
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts import second_factor
from accounts.access import origin_of
from accounts.models import ApiKey, Organization, User
from accounts.scopes import ADMIN
from proxy.api import throttling
from proxy.api.authentication import KeyAuthentication, wire_request
from proxy.api.errors import NotFound, TooManyAttempts
from proxy.gateway import keys
from proxy.gateway.errors import Forbidden, InvalidRequest, Unauthenticated

TOKEN = "X-Admin-Token"  # noqa: S105 - the name of a header
FAILURES_A_MINUTE = 10


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who may do everything; `by` is nobody for the operator's token, `organization` that of a key."""

    by: User | None
    via: str
    organization: Organization | None = None
    is_authenticated: bool = True


class OperatorAuthentication(BaseAuthentication):
    """`request.user` becomes an `Operator`. Raises `Unauthenticated`, `TooManyAttempts` or `Forbidden`."""

    def authenticate(self, request: Request) -> tuple[Operator, None]:
        given = request.headers.get(TOKEN)
        if given is not None:
            return _by_token(request, given), None
        if not keys.credential(wire_request(request)):
            raise Unauthenticated(f"Send the operator's token in {TOKEN}, or the key of a member of staff.")
        caller, _ = KeyAuthentication().authenticate(request)
        if caller.row is not None:
            return _by_key(request, caller.row, caller.key), None
        if not caller.actor.is_staff:
            raise Forbidden("Only staff may do that.", code="staff_only")
        _check_second_factor(caller.actor)
        return Operator(caller.actor, "access token"), None

    def authenticate_header(self, request: Request) -> str:
        return TOKEN


class IsOperator(BasePermission):
    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.user, Operator)


def for_operators(view: Any) -> Any:
    """A view that only operators reach; they are not rate-limited."""
    return authentication_classes([OperatorAuthentication])(
        permission_classes([IsOperator])(throttle_classes([])(view))
    )


def who(request: Request) -> dict[str, Any]:
    """`by` and `origin` for a verb."""
    return {"by": request.user.by, "origin": origin_of(request._request, via=request.user.via)}


def organization_of(request: Request, given: object) -> Organization:
    """The organization `given` by its slug or id; without one that of the key, or the only one that there is.

    Raises `NotFound` or `InvalidRequest`.
    """
    if given:
        text = str(given)[:60]
        found = Organization.objects.filter(slug=text).first() or _by_public_id(text)
        if found is None:
            raise NotFound("There is no such organization.", param="organization")
        return found
    if request.user.organization is not None:
        return request.user.organization
    active = list(Organization.objects.filter(status=Organization.Status.ACTIVE).order_by("pk")[:2])
    if len(active) != 1:
        raise InvalidRequest("Say which 'organization', by its slug.", param="organization")
    return active[0]


def _by_public_id(text: str) -> Organization | None:
    return Organization.objects.filter(public_id=text).first() if _is_uuid(text) else None


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4 and all(each in "0123456789abcdefABCDEF-" for each in text)


def _by_token(request: Request, given: str) -> Operator:
    """Wrong tokens of an address are counted; after too many of them the right one is refused there, too."""
    wanted, address = settings.ADMIN_TOKEN, throttling.address_of(request)
    if not throttling.may_try("admin", address, FAILURES_A_MINUTE):
        raise TooManyAttempts(f"Too many wrong tokens in {TOKEN} from this address. Wait a minute.")
    if not wanted or not hmac.compare_digest(given.encode(), wanted.encode()):
        throttling.failed("admin", address, FAILURES_A_MINUTE)
        raise Unauthenticated(f"The token in {TOKEN} is not the operator's.")
    return Operator(None, TOKEN)


def _by_key(request: Request, row: ApiKey, key: Any) -> Operator:
    """A key that names the scope itself, of somebody who is staff now."""
    keys.authorize(
        key, request.path, ADMIN, wire_request(request), trusted_proxies=settings.ALLAUTH_TRUSTED_PROXY_COUNT
    )
    maker = row.created_by
    if ADMIN not in row.scopes or maker is None or not (maker.is_staff and maker.is_active):
        raise Forbidden("Only a key with the scope 'admin' that staff have made may do that.", code="staff_only")
    _check_second_factor(maker)
    return Operator(maker, f"key {row.masked}", row.organization)


def _check_second_factor(user: User) -> None:
    """The same rule as for the administration's pages: a password alone makes nobody staff. Raises `Forbidden`."""
    if second_factor.is_missing(user):
        raise Forbidden("Set up a second factor first: staff need one.", code="second_factor_needed")
