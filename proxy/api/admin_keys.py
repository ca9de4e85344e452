"""`/v1/admin/keys` and `/v1/admin/usage/{key}`: any organization's keys, for operators."""

from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_slug
from django.db import transaction
from rest_framework import serializers
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import key_format, keys, organizations
from accounts.models import ApiKey, Organization
from billing import key_usage, ledger
from proxy.api.answers import key_as_dict, moment, money
from proxy.api.credits import amount_of
from proxy.api.errors import NotFound
from proxy.api.operators import for_operators, organization_of, who
from proxy.api.sdk_fields import Fields
from proxy.gateway.errors import InvalidRequest

MAX_ITEMS = 100


class KeyFields(Fields):
    """`label` is another word for `name`."""

    name = serializers.CharField(max_length=80, default="")
    label = serializers.CharField(max_length=80, default="")
    scopes = serializers.ListField(child=serializers.CharField(max_length=40), default=list, max_length=MAX_ITEMS)
    allowed_models = serializers.ListField(
        child=serializers.CharField(max_length=200), default=list, max_length=MAX_ITEMS
    )
    allowed_endpoints = serializers.ListField(
        child=serializers.CharField(max_length=100), default=list, max_length=MAX_ITEMS
    )
    allowed_ips = serializers.ListField(child=serializers.CharField(max_length=60), default=list, max_length=MAX_ITEMS)
    rpm = serializers.IntegerField(min_value=1, max_value=1_000_000, default=None, allow_null=True)
    tpm = serializers.IntegerField(min_value=1, max_value=2_000_000_000, default=None, allow_null=True)
    max_concurrent = serializers.IntegerField(min_value=1, max_value=100_000, default=None, allow_null=True)
    expires_at = serializers.DateTimeField(default=None, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        name = attrs["name"] or attrs.pop("label")
        if not name:
            raise serializers.ValidationError({"name": "Name the key."})
        attrs.pop("label", None)
        return attrs | {"name": name}


class PeriodFields(Fields):
    start = serializers.DateTimeField(default=None, allow_null=True)
    end = serializers.DateTimeField(default=None, allow_null=True)


@api_view(["POST"])
@for_operators
def create(request: Request) -> Response:
    """A key of `organization`, which is made if it is missing; `credits` are granted with it. `key` is shown once."""
    fields = KeyFields.read(request.data)
    credit = amount_of(request.data["credits"]) if request.data.get("credits") is not None else 0
    if credit < 0:
        raise InvalidRequest("'credits' must not be less than 0.", param="credits")
    try:
        with transaction.atomic():
            organization = _organization(request)
            ledger.account_of(organization)
            issued = keys.issue(organization=organization, **fields, **who(request))
            if credit:
                ledger.grant(
                    organization=organization,
                    amount=credit,
                    reason=f"with the key {issued.key.name}",
                    idempotency_key=f"grant:{uuid4()}",
                    by=request.user.by,
                )
    except keys.InvalidKey as error:
        raise InvalidRequest("This value is not allowed.", param=error.field) from None
    return Response(_told(issued.key) | {"key": issued.secret}, status=201)


@api_view(["POST"])
@for_operators
def revoke(request: Request, which: str) -> Response:
    """End a key now; a second time changes nothing."""
    key = _find(which)
    keys.revoke(key=key, **who(request))
    return Response(_told(key))


@api_view(["GET"])
@for_operators
def usage(request: Request, which: str) -> Response:
    """What a key used in all, or from `start` to before `end`, by model."""
    key = _find(which)
    period = PeriodFields.read(request.query_params)
    rows = key_usage.by_model(key, start=period["start"], end=period["end"])
    inputs, outputs = sum(row.input_tokens for row in rows), sum(row.output_tokens for row in rows)
    return Response(
        {
            "object": "key_usage",
            "key": _told(key),
            "start": moment(period["start"]),
            "end": moment(period["end"]),
            "requests": sum(row.requests for row in rows),
            "errors": sum(row.errors for row in rows),
            "input_tokens": inputs,
            "output_tokens": outputs,
            "total_tokens": inputs + outputs,
            "cost": money(sum(row.cost_nanos for row in rows)),
            "models": [
                {
                    "model": row.model,
                    "requests": row.requests,
                    "errors": row.errors,
                    "input_tokens": row.input_tokens,
                    "output_tokens": row.output_tokens,
                    "cost": money(row.cost_nanos),
                }
                for row in rows
            ],
        }
    )


def _organization(request: Request) -> Organization:
    """The organization that is named, made if it is missing. Raises `InvalidRequest`."""
    slug = request.data.get("organization")
    if not slug:
        return organization_of(request, None)
    found = Organization.objects.filter(slug=str(slug)[:60]).first()
    if found is not None:
        return found
    try:
        validate_slug(slug)
        if len(slug) > organizations.MAX_SLUG or slug in organizations.RESERVED_SLUGS:
            raise ValidationError("too long, or reserved")
    except (ValidationError, TypeError):
        raise InvalidRequest(
            "'organization' must be a slug: letters, digits, hyphens and underscores.", param="organization"
        ) from None
    return organizations.create(name=slug, slug=slug, origin=who(request)["origin"])


def _find(which: str) -> ApiKey:
    """A key by its id, its prefix or itself. Raises `NotFound`."""
    rows = ApiKey.objects.select_related("organization", "rotated_from")
    try:
        found = rows.filter(public_id=UUID(which)).first()
    except ValueError:
        found = rows.filter(prefix=which[:19]).first() if len(which) <= 19 else _by_secret(which)
    if found is None:
        raise NotFound("There is no such key.", param="key")
    return found


def _by_secret(which: str) -> ApiKey | None:
    if not which.isascii() or not key_format.is_well_formed(which):
        return None
    digest = key_format.digest_of(which, settings.API_KEY_PEPPER)
    return ApiKey.objects.select_related("organization", "rotated_from").filter(digest=digest).first()


def _told(key: ApiKey) -> dict[str, Any]:
    return key_as_dict(key) | {"masked": key.masked, "prefix": key.prefix, "organization": key.organization.slug}
