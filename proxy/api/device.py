"""`/v1/auth/device/…`: device login (RFC 8628).

Its clients send forms, and hear errors as OAuth 2.0 tells them (`{"error": "authorization_pending"}`). Who sends JSON,
as to the rest of `/v1`, hears them in OpenAI's shape, where the same word is the `code`.
"""

from typing import Any

from django.conf import settings
from django.urls import reverse
from rest_framework.decorators import api_view, authentication_classes, parser_classes, permission_classes
from rest_framework.parsers import FormParser
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import device_login
from accounts.access import origin_of
from accounts.api_sessions import Tokens
from proxy.api.errors import NotFound
from proxy.api.parsing import JsonObjectParser
from proxy.api.signing_in import pair, text
from proxy.gateway.errors import GatewayError, InvalidRequest

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_MESSAGES = {
    "authorization_pending": "Nobody has approved this yet. Ask again.",
    "slow_down": "You ask too often. Wait longer between two requests.",
    "access_denied": "This device was turned away.",
    "expired_token": "The code has expired. Start again.",
    "invalid_grant": "The device code is unknown or was used. Start again.",
    "unsupported_grant_type": f"'grant_type' must be {GRANT}.",
}


class NoTokens(GatewayError):
    """The answers of RFC 8628 section 3.5 other than tokens."""

    status = 400
    type = "invalid_request_error"

    def __init__(self, code: str, interval_s: int | None = None) -> None:
        super().__init__(_MESSAGES[code], code=code)
        self.interval_s = interval_s
        if code in {"authorization_pending", "slow_down"}:
            self.headers = (("retry-after", str(interval_s)),)
        else:
            self.headers = (("x-should-retry", "false"),)

    def as_dict(self) -> dict[str, Any]:
        return super().as_dict() | ({"interval": self.interval_s} if self.interval_s else {})


@api_view(["POST"])
@authentication_classes([])
@permission_classes([])
@parser_classes([JsonObjectParser, FormParser])
def code(request: Request) -> Response:
    """The codes of a device that wants in. `client_name` is what people are shown; nobody checks it."""
    started = device_login.start(
        client_id=text(request, "client_id", 80, is_needed=False),
        client_name=text(request, "client_name", 80, is_needed=False),
        origin=origin_of(request._request),
    )
    page = f"{settings.SITE_URL}{reverse('accounts:device')}"
    return Response(
        {
            "device_code": started.device_code,
            "user_code": started.user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={started.user_code}",
            "expires_in": int(device_login.LIFETIME.total_seconds()),
            "interval": started.login.interval_s,
        }
    )


@api_view(["POST"])
@authentication_classes([])
@permission_classes([])
@parser_classes([JsonObjectParser, FormParser])
def token(request: Request) -> Response:
    """The tokens, once they may be had."""
    try:
        return Response(pair(_tokens(request)))
    except (NoTokens, InvalidRequest) as error:
        if not _is_form(request):
            raise
        word = error.code if isinstance(error, NoTokens) else "invalid_request"
        told = {"error": word, "error_description": error.message}
        return Response(told, status=error.status, headers=dict(error.headers))


@api_view(["GET"])
@authentication_classes([])
@permission_classes([])
def status(request: Request, device_code: str) -> Response:
    """What became of a device code; asking changes nothing."""
    try:
        login = device_login.find(device_code)
    except device_login.NoSuchCode:
        raise NotFound("There is no such device code, or it is long over.") from None
    state = device_login.state_of(login)
    return Response(
        {
            "object": "device_login",
            "status": state,
            "expires_in": device_login.seconds_left(login) if state in {"pending", "approved"} else 0,
            "interval": login.interval_s,
        }
    )


def _tokens(request: Request) -> Tokens:
    grant = request.data.get("grant_type", GRANT)
    if grant != GRANT:
        raise NoTokens("unsupported_grant_type")
    try:
        return device_login.poll(
            device_code=text(request, "device_code", device_login.MAX_DEVICE_CODE),
            client_id=text(request, "client_id", 80, is_needed=False),
            origin=origin_of(request._request),
        )
    except device_login.NotYet as answer:
        raise NoTokens(answer.code, answer.interval_s) from None


def _is_form(request: Request) -> bool:
    return (request.content_type or "").startswith("application/x-www-form-urlencoded")
