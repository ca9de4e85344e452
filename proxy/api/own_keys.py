"""`/v1/auth/api-keys`: the organization's API keys, for its members."""

from datetime import datetime
from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import keys
from accounts.access import origin_of
from accounts.models import ApiKey
from proxy.api.answers import moment
from proxy.api.authentication import Member, MemberAuthentication, may
from proxy.api.errors import NotFound
from proxy.gateway.errors import InvalidRequest

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
MAX_ITEMS, MAX_ITEM = 100, 200


class Words(serializers.ListField):
    """A list of short texts."""

    child = serializers.CharField(max_length=MAX_ITEM)

    def __init__(self) -> None:
        super().__init__(required=False, max_length=MAX_ITEMS, default=list)


class KeyFields(serializers.Serializer[Any]):
    """What a new key may be given; what is left out does not limit it."""

    name = serializers.CharField(max_length=80)
    scopes = Words()
    allowed_models = Words()
    allowed_endpoints = Words()
    allowed_ips = Words()
    rpm = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=1_000_000)
    tpm = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=2_000_000_000)
    max_concurrent = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=100_000)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


@api_view(["GET", "POST"])
@authentication_classes([MemberAuthentication])
@permission_classes([may("keys.view", "keys.manage")])
def api_keys(request: Request) -> Response:
    """The keys, the newest first, as cursor pages by `after`; or a new one, whose secret is in the answer alone."""
    return _create(request) if request.method == "POST" else _list(request)


@api_view(["GET", "DELETE"])
@authentication_classes([MemberAuthentication])
@permission_classes([may("keys.view", "keys.manage")])
def api_key(request: Request, public_id: Any) -> Response:
    """One key, or its end: whoever uses it is refused within a second. A second time changes nothing."""
    member: Member = request.user
    key = member.organization.keys.filter(public_id=public_id).first()
    if key is None:
        raise NotFound("There is no such API key.")
    if request.method == "GET":
        return Response(as_dict(key))
    keys.revoke(key=key, by=member.actor, origin=origin_of(request._request))
    return Response({"id": str(key.public_id), "object": "api_key", "deleted": True})


def as_dict(key: ApiKey) -> dict[str, Any]:
    """A key as its organization may see it: never the secret."""
    return {
        "object": "api_key",
        "id": str(key.public_id),
        "name": key.name,
        "key": key.masked,
        "is_live": key.is_live,
        "scopes": key.scopes,
        "allowed_models": key.allowed_models,
        "allowed_endpoints": key.allowed_endpoints,
        "allowed_ips": key.allowed_ips,
        "rpm": key.rpm,
        "tpm": key.tpm,
        "max_concurrent": key.max_concurrent,
        "created_at": moment(key.created_at),
        "expires_at": moment(key.expires_at),
        "revoked_at": moment(key.revoked_at),
        "last_used_at": moment(key.last_used_at),
    }


def _list(request: Request) -> Response:
    member: Member = request.user
    query = request.query_params
    limit = _number(query.get("limit", ""), "limit") or DEFAULT_LIMIT
    if limit > MAX_LIMIT:
        raise InvalidRequest(f"'limit' must be at most {MAX_LIMIT}.", param="limit")
    rows = member.organization.keys.order_by("-pk")
    after = query.get("after", "")
    if after:
        rows = rows.filter(pk__lt=_number(after, "after"))
    found = list(rows[: limit + 1])
    has_more = len(found) > limit
    return Response(
        {
            "object": "list",
            "data": [as_dict(key) for key in found[:limit]],
            "has_more": has_more,
            "next": str(found[limit - 1].pk) if has_more else None,
        }
    )


def _create(request: Request) -> Response:
    member: Member = request.user
    given = KeyFields(data=request.data)
    given.is_valid(raise_exception=True)
    fields = given.validated_data
    _check_expiry(fields.get("expires_at"))
    try:
        issued = keys.issue(
            organization=member.organization, by=member.actor, origin=origin_of(request._request), **fields
        )
    except keys.InvalidKey as error:
        raise InvalidRequest(f"'{error.field}': {error.value!r} is not allowed.", param=error.field) from None
    return Response(as_dict(issued.key) | {"secret": issued.secret}, status=201)


def _check_expiry(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidRequest("'expires_at' must lie in the future.", param="expires_at")


def _number(text: str, name: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18 or not int(text):
        raise InvalidRequest(f"'{name}' must be a number above 0.", param=name)
    return int(text)
