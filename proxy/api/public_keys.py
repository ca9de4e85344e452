"""`/v1/public/keys`: keys for whoever asks. Not there unless SELF_SERVICE_KEYS is set."""

from typing import Any

from allauth.core import ratelimit
from django.conf import settings
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import self_service
from accounts.access import origin_of
from accounts.models import ApiKey
from proxy.api.answers import moment
from proxy.api.errors import Conflict, TooManyAttempts
from proxy.api.signing_in import text
from proxy.gateway.errors import InvalidRequest, UnknownUrl

BAD_NAME = "'username' may have letters, digits, dots, dashes, underscores and @: at most 64 of them."


@api_view(["POST"])
@authentication_classes([])
@permission_classes([])
def create(request: Request) -> Response:
    """A key for `username`, with its secret in this answer alone."""
    _be_on(request)
    if not ratelimit.consume(request._request, action="request_key"):
        raise TooManyAttempts
    try:
        issued = self_service.request(
            username=text(request, "username", 64),
            note=text(request, "note", self_service.MAX_NOTE, is_needed=False),
            origin=origin_of(request._request),
        )
    except self_service.InvalidName:
        raise InvalidRequest(BAD_NAME, param="username") from None
    except self_service.TooManyKeys:
        message = f"This name has {self_service.MAX_KEYS} keys already. Ask an operator to revoke some."
        raise Conflict(message, param="username", code="too_many_keys") from None
    return Response(_as_dict(issued.key) | {"secret": issued.secret}, status=201)


@api_view(["GET"])
@authentication_classes([])
@permission_classes([])
def listing(request: Request, username: str) -> Response:
    """The live keys of a name, masked."""
    _be_on(request)
    try:
        found = self_service.keys_of(username)
    except self_service.InvalidName:
        raise InvalidRequest(BAD_NAME, param="username") from None
    return Response({"object": "list", "data": [_as_dict(key) for key in found], "has_more": False, "next": None})


def _be_on(request: Request) -> None:
    if not settings.SELF_SERVICE_KEYS:
        raise UnknownUrl(request.method or "", request.path)


def _as_dict(key: ApiKey) -> dict[str, Any]:
    return {
        "object": "api_key",
        "id": str(key.public_id),
        "username": key.requested.username,
        "note": key.requested.note,
        "key": key.masked,
        "created_at": moment(key.created_at),
        "last_used_at": moment(key.last_used_at),
    }
