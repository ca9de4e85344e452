"""Who calls the management API: an API key, read from the same headers and looked up by the same digest as `/v1`'s;
or a person with an access token of `/v1/auth`, who may do what their role allows."""

from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request as ApiRequest

from accounts import access, api_sessions, key_format, sign_in, tokens
from accounts.models import ApiKey, ApiSession, Membership, Organization, Role, User
from proxy.api.errors import NO_KEY
from proxy.gateway import keys
from proxy.gateway.errors import Forbidden, Unauthenticated
from proxy.gateway.snapshots import Key
from proxy.gateway.wire import Request
from proxy.key_snapshots import snapshot_of, snapshot_of_organization

SCOPE = "management"
# Which of a person's organizations a request is about, as OpenAI's SDKs send it: a slug or a public id.
ORGANIZATION_HEADER = "OpenAI-Organization"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
NOT_SIGNED_IN = "This access token has expired, or its session has ended. Refresh it, or sign in again."


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
    def actor(self) -> User | None:
        """The person who does it, for the audit log: none, a key does."""
        return None

    @property
    def pk(self) -> str:
        return f"key-{self.key.id}"


@dataclass(frozen=True, slots=True)
class Member:
    """A person with an access token. Where a key's limits are asked for, `key` has those of the organization alone."""

    session: ApiSession
    membership: Membership
    key: Key
    row: None = None
    is_authenticated: bool = True

    @property
    def organization(self) -> Organization:
        return self.membership.organization

    @property
    def actor(self) -> User:
        return self.session.user

    @property
    def pk(self) -> str:
        return f"user-{self.session.user_id}"


class MemberAuthentication(BaseAuthentication):
    """`request.user` becomes a `Member`. Raises `Unauthenticated`, or `Forbidden` for a foreign organization."""

    def authenticate(self, request: ApiRequest) -> tuple[Any, None]:
        secret = keys.credential(wire_request(request))
        if not tokens.looks_like(secret):
            raise Unauthenticated("Send an access token: 'Authorization: Bearer …'. POST /v1/auth/login gives you one.")
        return member_of(secret, request.headers.get(ORGANIZATION_HEADER, "").strip()), None

    def authenticate_header(self, request: ApiRequest) -> str:
        return "Bearer"


class KeyAuthentication(BaseAuthentication):
    """`request.user` becomes a `Caller` or a `Member`. Raises `Unauthenticated`."""

    def authenticate(self, request: ApiRequest) -> tuple[Any, None]:
        secret = keys.credential(wire_request(request))
        if not secret:
            raise Unauthenticated(NO_KEY)
        if tokens.looks_like(secret):
            return MemberAuthentication().authenticate(request)
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

    Its allow-list of endpoints is about what is metered, and does not close this API. People are let in where `may`
    names the permission that their role must have; a key can do no more with it than who made it.
    """

    scope = SCOPE
    view_permission = change_permission = ""

    def has_permission(self, request: ApiRequest, view: Any) -> bool:
        """Raises the `Forbidden` that says why not."""
        if isinstance(request.user, Member):
            return self._has_role(request.user, request.method or "")
        wire = wire_request(request)
        _check_maker(request.user.row, self._permission(request.method or ""))
        guarded = replace(request.user.key, allowed_endpoints=frozenset())
        if not self.scope:
            guarded = replace(guarded, scopes=frozenset())
        keys.authorize(guarded, request.path, self.scope, wire, trusted_proxies=settings.ALLAUTH_TRUSTED_PROXY_COUNT)
        return True

    def _permission(self, method: str) -> str:
        return self.view_permission if method in SAFE_METHODS else self.change_permission

    def _has_role(self, member: Member, method: str) -> bool:
        permission = self._permission(method)
        if not permission:
            raise Forbidden("This needs an API key, not the access token of a person.", code="api_key_required")
        if not member.key.is_active:
            raise Forbidden("This organization is not active.", code="organization_inactive")
        if not access.can(member.membership, permission):
            role = Role(member.membership.role).label.lower()
            raise Forbidden(f"Your role in {member.organization.slug}, {role}, does not allow this.", code="role")
        return True


class AnyKey(MayManage):
    """Any live key from an address that it may be used from, any member: for what may be known by all."""

    scope = ""
    view_permission = change_permission = "usage.view"


class OnlyKey(AnyKey):
    """Any live key: for what is about the key itself."""

    view_permission = change_permission = ""


def may(view: str, change: str = "", *, scope: str = SCOPE) -> type[MayManage]:
    """Keys with `scope`, and members whose role has the permission `view`, or `change` for what is no GET."""
    fields = {"scope": scope, "view_permission": view, "change_permission": change or view}
    return type("MayAsMember", (MayManage,), fields)


def member_of(access_token: str, organization: str = "") -> Member:
    """Who an access token stands for, in the session's organization or the one named.

    A session that a device was given is for the one organization that its person chose. Raises `Unauthenticated`,
    `Forbidden`.
    """
    try:
        session = api_sessions.find(access_token)
    except tokens.InvalidToken:
        raise Unauthenticated(NOT_SIGNED_IN) from None
    chosen: Organization | None = session.organization
    if organization and not sign_in.is_called(session.organization, organization):
        is_bound = session.way == ApiSession.Way.DEVICE
        chosen = None if is_bound else sign_in.organization_of(session.user, organization)
    membership = Membership.objects.filter(user=session.user, organization=chosen).first() if chosen else None
    if membership is None or chosen is None:
        name = organization or session.organization.slug
        raise Forbidden(f"You are no member of {name[:60]!r}, or this session is not for it.", code="not_a_member")
    membership.user, membership.organization = session.user, chosen
    return Member(session, membership, snapshot_of_organization(chosen, key_id=-session.pk))


def who(request: ApiRequest) -> dict[str, Any]:
    """`by` and `origin` for a verb: the person, or else the key that it was done with."""
    caller: Caller | Member = request.user
    via = f"key {caller.row.masked}" if caller.row else ""
    return {"by": caller.actor, "origin": access.origin_of(request._request, via=via)}


def wire_request(request: Any) -> Request:
    """A Django request as the gateway reads one: its headers and address, no body. ASGI has names in lower case."""
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in request.headers.items()
    ]
    scope = {
        "method": request.method,
        "path": request.path,
        "headers": headers,
        "client": (request.META.get("REMOTE_ADDR", ""), 0),
    }
    return Request(scope, _no_body)


async def _no_body() -> Any:
    raise RuntimeError("the body is Django's")


def _check_maker(row: ApiKey, permission: str) -> None:
    """What not everybody may who makes keys, such as moving credit, a key may while its maker may. Raises `Forbidden`.

    A key that no person made is the operator's doing, and so is one that staff made.
    """
    maker = row.created_by
    if maker is None or not permission or access.PERMISSIONS["keys.manage"] <= access.PERMISSIONS[permission]:
        return
    roles = access.PERMISSIONS[permission]
    is_member = Membership.objects.filter(user=maker, organization=row.organization, role__in=roles).exists()
    if not maker.is_active or not (is_member or maker.is_staff):
        raise Forbidden("Whoever made this key may not do this, or no longer: use the key of one who may.", code="role")


def _find(secret: str) -> ApiKey | None:
    if len(secret) > keys.MAX_CREDENTIAL or not secret.isascii() or not key_format.is_well_formed(secret):
        return None
    digest = key_format.digest_of(secret, settings.API_KEY_PEPPER)
    return (
        ApiKey.objects.live()
        .select_related("organization__transcript_settings", "created_by")
        .filter(digest=digest)
        .first()
    )
