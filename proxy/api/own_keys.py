"""`/v1/auth/api-keys`: the organization's API keys and their budgets, for its members."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from rest_framework import serializers
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import keys
from accounts.access import may_change
from accounts.models import ApiKey
from billing import standings
from proxy.api import key_budgets, numbers
from proxy.api.answers import key_as_dict
from proxy.api.authentication import Member, MemberAuthentication, may, who
from proxy.api.errors import NotFound
from proxy.gateway.errors import Forbidden, InvalidRequest

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
MAX_ITEMS, MAX_ITEM = 100, 200
MAX_BUDGETS = 20


class Words(serializers.ListField):
    """A list of short texts."""

    child = serializers.CharField(max_length=MAX_ITEM)

    def __init__(self) -> None:
        super().__init__(required=False, max_length=MAX_ITEMS, default=list)


class KeyChanges(serializers.Serializer[Any]):
    """What of a key may be changed: what is left out stays. `budgets` takes the place of all that it has."""

    name = serializers.CharField(max_length=80)
    allowed_models = Words()
    allowed_endpoints = Words()
    allowed_ips = Words()
    rpm = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=1_000_000)
    tpm = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=2_000_000_000)
    max_concurrent = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=100_000)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    budgets = key_budgets.BudgetFields(many=True, required=False, max_length=MAX_BUDGETS)


class KeyFields(KeyChanges):
    """What a new key may be given; what is left out does not limit it."""

    scopes = Words()


@api_view(["GET", "POST"])
@authentication_classes([MemberAuthentication])
@permission_classes([may("keys.view", "keys.manage")])
def api_keys(request: Request) -> Response:
    """The keys, the newest first, as cursor pages by `after`; or a new one, whose secret is in the answer alone."""
    return _create(request) if request.method == "POST" else _list(request)


@api_view(["GET", "PATCH", "DELETE"])
@authentication_classes([MemberAuthentication])
@permission_classes([may("keys.view", "keys.manage")])
def api_key(request: Request, public_id: Any) -> Response:
    """One key; other limits for it; or its end: whoever uses it is refused within a second, twice changes nothing."""
    member: Member = request.user
    key = member.organization.keys.filter(public_id=public_id).first()
    if key is None:
        raise NotFound("There is no such API key.")
    if request.method == "PATCH":
        _change(request, key)
    if request.method != "DELETE":
        return Response(_told([key], member)[0])
    keys.revoke(key=key, **who(request))
    return Response({"id": str(key.public_id), "object": "api_key", "deleted": True})


def _list(request: Request) -> Response:
    member: Member = request.user
    limit = numbers.page_size(request, DEFAULT_LIMIT, MAX_LIMIT)
    rows = member.organization.keys.order_by("-pk")
    after = numbers.above_zero(request, "after")
    if after is not None:
        rows = rows.filter(pk__lt=after)
    found = list(rows[: limit + 1])
    has_more = len(found) > limit
    return Response(
        {
            "object": "list",
            "data": _told(found[:limit], member),
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
    caps = fields.pop("budgets", None)
    form = key_budgets.read(caps) if caps else None
    if form is not None:
        key_budgets.check_role(member)
    try:
        with transaction.atomic():
            issued = keys.issue(organization=member.organization, **who(request), **fields)
            if form is not None:
                key_budgets.save(issued.key, form, by=member, request=request._request)
    except keys.InvalidKey as error:
        raise _not_allowed(error) from None
    return Response(_told([issued.key], member)[0] | {"secret": issued.secret}, status=201)


def _change(request: Request, key: ApiKey) -> None:
    fixed = sorted(set(request.data) - set(KeyChanges().fields))
    if fixed:
        raise InvalidRequest(f"'{fixed[0]}' of a key cannot be changed. Make another key.", param=fixed[0])
    member: Member = request.user
    if not may_change(member.membership, key):
        message = "Developers change the keys that they made, admins and the owner all; the scope 'admin' is for staff."
        raise Forbidden(message, code="role")
    given = KeyChanges(data=request.data, partial=True)
    given.is_valid(raise_exception=True)
    fields = given.validated_data
    caps = fields.pop("budgets", None)
    form = None if caps is None else key_budgets.read(caps)
    if form is not None:
        key_budgets.check_role(member)
    try:
        with transaction.atomic():
            if fields:
                keys.change(key=key, **who(request), **fields)
                key.refresh_from_db()
            if form is not None:
                key_budgets.save(key, form, by=member, request=request._request)
    except keys.InvalidKey as error:
        raise _not_allowed(error) from None


def _not_allowed(error: keys.InvalidKey) -> InvalidRequest:
    if error.field == "key":
        return InvalidRequest("This key has ended and cannot be changed. Make another key.")
    return InvalidRequest(f"'{error.field}': {error.value!r} is not allowed.", param=error.field)


def _told(found: list[ApiKey], member: Member) -> list[dict[str, Any]]:
    caps = standings.caps_of_keys(member.organization, found)
    return [
        key_as_dict(key) | {"key": key.masked, "budgets": key_budgets.as_list(caps.get(key.pk, []))} for key in found
    ]


def _check_expiry(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= timezone.now():
        raise InvalidRequest("'expires_at' must lie in the future.", param="expires_at")
