"""`/v1/auth/register`, `login`, `refresh`, `logout` and `me`: accounts and sessions for programs."""

from typing import Any

from django.http import HttpRequest
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import access, api_sessions, organizations, second_factor, sign_in, tokens
from accounts.access import origin_of
from accounts.api_sessions import Tokens
from accounts.models import ApiSession, Membership, Organization, User
from proxy.api.answers import moment
from proxy.api.authentication import NOT_SIGNED_IN, Member, MemberAuthentication
from proxy.api.errors import TooManyAttempts
from proxy.gateway.errors import Forbidden, GatewayError, InvalidRequest, Unauthenticated

DEVICE_HINT = "This account's second factor is a passkey, which needs a browser: use POST /v1/auth/device/code."


class SignInRefused(GatewayError):
    """No session: wrong credentials, or something more is needed; `code` says which."""

    status = 401
    type = "invalid_request_error"
    headers = (("www-authenticate", "Bearer"), ("x-should-retry", "false"))


class SecondFactorNeeded(SignInRefused):
    """The same request with `code` is to follow; `methods` are those that the account has."""

    def __init__(self, methods: list[str]) -> None:
        typed = set(methods).intersection(second_factor.TYPED)
        message = "Send the same again with 'code': one of your authenticator app, or a recovery code."
        super().__init__(message if typed else DEVICE_HINT, param="code", code="mfa_required")
        self.methods = methods

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | {"methods": self.methods}


@api_view(["POST"])
@authentication_classes([])
@permission_classes([])
def register(request: Request) -> Response:
    """A new account with an organization of its own, signed in unless the address must be confirmed first."""
    email, password = text(request, "email", 254), text(request, "password", sign_in.MAX_PASSWORD)
    name = text(request, "name", 120, is_needed=False)
    try:
        user = sign_in.register(_page(request), email=email, password=password, name=name)
    except sign_in.TooManyAttempts:
        raise TooManyAttempts from None
    except sign_in.SignUpRefused as refused:
        raise InvalidRequest(f"'{refused.field}': {refused.problem}", param=refused.field, code=refused.code) from None
    if user is None or sign_in.is_verification_mandatory():
        told = {"object": "registration", "email": email.lower(), "is_email_confirmation_sent": True}
        return Response(told, status=201)
    return _signed_in(request, user, organizations.personal_of(user), status=201)


@api_view(["POST"])
@authentication_classes([])
@permission_classes([])
def login(request: Request) -> Response:
    """A session for `email` and `password`, and `code` where there is a second factor; for `organization`, if named."""
    try:
        user = sign_in.with_password(
            _page(request),
            email=text(request, "email", 254),
            password=text(request, "password", sign_in.MAX_PASSWORD),
            code=text(request, "code", 40, is_needed=False),
        )
    except sign_in.TooManyAttempts:
        raise TooManyAttempts from None
    except sign_in.CodeNeeded as needed:
        raise SecondFactorNeeded(needed.methods) from None
    except sign_in.WrongCode:
        raise SignInRefused("This code is wrong or was used already.", param="code", code="mfa_invalid") from None
    except sign_in.EmailUnverified:
        message = "Confirm your email address first: we have sent you a link."
        raise Forbidden(message, code="email_not_verified") from None
    except sign_in.WrongCredentials:
        message = "The email address or the password is not right."
        raise SignInRefused(message, code="invalid_credentials") from None
    organization = sign_in.organization_of(user, text(request, "organization", 60, is_needed=False))
    if organization is None:
        raise InvalidRequest("'organization' must be one that you belong to.", param="organization")
    return _signed_in(request, user, organization)


@api_view(["POST"])
@authentication_classes([])
@permission_classes([])
def refresh(request: Request) -> Response:
    """The next pair of tokens for `refresh_token`, which works once."""
    try:
        made = api_sessions.refresh(text(request, "refresh_token", tokens.MAX_LENGTH))
    except api_sessions.TokenReused:
        message = "This refresh token was used before, so its session has been ended. Sign in again."
        raise SignInRefused(message, param="refresh_token", code="refresh_token_reused") from None
    except tokens.InvalidToken:
        message = "This refresh token is not valid, or its session has ended. Sign in again."
        raise SignInRefused(message, param="refresh_token", code="invalid_refresh_token") from None
    return Response(pair(made))


@api_view(["POST"])
@authentication_classes([])
@permission_classes([])
def logout(request: Request) -> Response:
    """End the session of `refresh_token`, or else of the access token; with `everywhere`, all of its person's."""
    session = _session_to_end(request)
    if session is None:
        return Response({"object": "session", "id": None, "ended": True})
    origin = origin_of(_page(request))
    if request.data.get("everywhere") is True:
        api_sessions.end_all(session.user, reason="logout everywhere", origin=origin)
    else:
        api_sessions.end(session, by=session.user, origin=origin)
    return Response({"object": "session", "id": str(session.public_id), "ended": True})


@api_view(["GET"])
@authentication_classes([MemberAuthentication])
@permission_classes([])
def me(request: Request) -> Response:
    """The person, their organizations with their role in each, and the session."""
    member: Member = request.user
    memberships = sign_in.memberships_of(member.actor)
    return Response(
        person(member.actor)
        | {
            "organization": _membership(member.membership, member.organization),
            "organizations": [_membership(one, one.organization) for one in memberships],
            "session": _session(member.session),
        }
    )


def pair(made: Tokens) -> dict[str, Any]:
    """A pair of tokens as OAuth 2.0 answers it (RFC 6749, section 5.1)."""
    return {
        "object": "session",
        "id": str(made.session.public_id),
        "access_token": made.access,
        "refresh_token": made.refresh,
        "token_type": "Bearer",
        "expires_in": made.expires_in,
        "refresh_expires_in": made.refresh_expires_in,
    }


def person(user: User) -> dict[str, Any]:
    """A person, as they see themselves."""
    return {
        "object": "user",
        "id": str(user.public_id),
        "email": user.email,
        "name": user.name,
        "is_email_verified": sign_in.is_verified(user),
        "is_staff": user.is_staff,
        "mfa_methods": second_factor.methods_of(user),
        "created_at": moment(user.joined_at),
    }


def text(request: Request, name: str, limit: int, *, is_needed: bool = True) -> str:
    """A text of the body, without the spaces around it unless it is a password. Raises `InvalidRequest`."""
    value = request.data.get(name) or ""
    if not isinstance(value, str) or len(value) > limit or "\x00" in value:
        raise InvalidRequest(f"'{name}' must be a text of at most {limit} characters.", param=name)
    value = value if name == "password" else value.strip()
    if is_needed and not value:
        raise InvalidRequest(f"'{name}' is needed.", param=name, code="missing_required_parameter")
    return value


def _signed_in(request: Request, user: User, organization: Organization, *, status: int = 200) -> Response:
    made = api_sessions.begin(
        user=user,
        organization=organization,
        way=ApiSession.Way.PASSWORD,
        label=text(request, "client_name", 80, is_needed=False),
        origin=origin_of(_page(request)),
    )
    membership = Membership.objects.get(user=user, organization=organization)
    told = {"user": person(user), "organization": _membership(membership, organization)}
    return Response(pair(made) | told, status=status)


def _session_to_end(request: Request) -> ApiSession | None:
    token = text(request, "refresh_token", tokens.MAX_LENGTH, is_needed=False)
    if not token:
        return MemberAuthentication().authenticate(request)[0].session
    try:
        return api_sessions.find_by_refresh(token)
    except tokens.InvalidToken:
        raise Unauthenticated(NOT_SIGNED_IN) from None


def _membership(membership: Membership, organization: Organization) -> dict[str, Any]:
    return {
        "object": "organization",
        "id": str(organization.public_id),
        "slug": organization.slug,
        "name": organization.name,
        "is_personal": organization.is_personal,
        "role": membership.role,
        "permissions": sorted(name for name in access.PERMISSIONS if access.can(membership, name)),
    }


def _session(session: ApiSession) -> dict[str, Any]:
    return {
        "object": "session",
        "id": str(session.public_id),
        "way": session.way,
        "client_name": session.label or None,
        "created_at": moment(session.created_at),
        "expires_at": moment(session.expires_at),
    }


def _page(request: Request) -> HttpRequest:
    """The request as Django's own, which allauth works with."""
    page: HttpRequest = request._request
    return page
