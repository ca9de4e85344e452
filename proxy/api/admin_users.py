"""`/v1/admin/users/…` and `/v1/admin/blocked`: any organization's end users, for operators."""

from typing import Any

from rest_framework import serializers
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Organization
from billing import blocks, budgets, end_user_usage
from billing.end_user_usage import EndUserUsage
from billing.models import Budget, EndUserBlock
from billing.money import InvalidAmount, nanos_from_usd
from billing.usage_counts import MAX_COUNT
from proxy.api import numbers
from proxy.api.end_users import block_entry, thresholds_of, usage_of
from proxy.api.errors import NotFound
from proxy.api.operators import for_operators, organization_of, who
from proxy.api.sdk_fields import Fields
from proxy.gateway.errors import InvalidRequest

DEFAULT_LIMIT, MAX_LIMIT = 50, 500
MAX_OFFSET = 10_000_000


class BlockFields(Fields):
    reason = serializers.CharField(max_length=blocks.MAX_REASON, default="Blocked by the operator")
    expiresAt = serializers.DateTimeField(default=None, allow_null=True)


class ThresholdFields(Fields):
    """0 or null: no cap."""

    maxCostUsd = serializers.CharField(max_length=30, default=None, allow_null=True)
    maxTotalTokens = serializers.IntegerField(min_value=0, max_value=MAX_COUNT, default=None, allow_null=True)


@api_view(["GET"])
@for_operators
def users(request: Request) -> Response:
    """Everybody known: who used something this month, is blocked or has a budget; the dearest first."""
    query = request.query_params
    organization = organization_of(request, query.get("organization"))
    limit = numbers.up_to(request, "limit", MAX_LIMIT) or DEFAULT_LIMIT
    offset = numbers.up_to(request, "after", MAX_OFFSET)
    search = query.get("q", "").replace("\0", "")[: blocks.MAX_END_USER]
    found = end_user_usage.page(organization, search=search, limit=limit + 1, offset=offset)
    has_more = len(found) > limit
    return Response(
        {
            "object": "list",
            "data": _told(organization, found[:limit]),
            "has_more": has_more,
            "next": str(offset + limit) if has_more else None,
        }
    )


@api_view(["GET"])
@for_operators
def user_usage(request: Request, end_user: str) -> Response:
    """The month of one end user, its threshold and whether it is blocked. Who was never seen has used nothing."""
    return _answer(organization_of(request, request.query_params.get("organization")), end_user)


@api_view(["POST"])
@for_operators
def block(request: Request, end_user: str) -> Response:
    """Refuse an end user from now on."""
    organization = organization_of(request, request.data.get("organization"))
    fields = BlockFields.read(request.data)
    try:
        blocks.block(
            organization=organization,
            end_user=end_user,
            reason=fields["reason"],
            expires_at=fields["expiresAt"],
            **who(request),
        )
    except blocks.InvalidBlock as error:
        names = {"end_user": "userId", "reason": "reason", "expires_at": "expiresAt"}
        raise InvalidRequest("This value is not allowed.", param=names[error.field]) from None
    return _answer(organization, end_user)


@api_view(["POST"])
@for_operators
def unblock(request: Request, end_user: str) -> Response:
    """Let an end user in again."""
    organization = organization_of(request, request.data.get("organization"))
    if not blocks.unblock(organization=organization, end_user=end_user, **who(request)):
        raise NotFound("This end user is not blocked.", param="userId")
    return _answer(organization, end_user)


@api_view(["POST"])
@for_operators
def threshold(request: Request, end_user: str) -> Response:
    """Set what an end user may use in a month; without any cap it follows the default again."""
    organization = organization_of(request, request.data.get("organization"))
    fields = ThresholdFields.read(request.data)
    if not end_user or len(end_user) > blocks.MAX_END_USER or "\0" in end_user:
        raise InvalidRequest("This is not the name of an end user.", param="userId")
    try:
        cost = nanos_from_usd(fields["maxCostUsd"] or "0")
    except InvalidAmount:
        cost = -1
    if cost < 0:
        raise InvalidRequest("'maxCostUsd' must be dollars, such as 25 or 2.50.", param="maxCostUsd")
    budgets.set_budget(
        organization=organization,
        scope=Budget.Scope.END_USER,
        end_user=end_user,
        period=Budget.Period.MONTH,
        cost_cap_nanos=cost or None,
        token_cap=fields["maxTotalTokens"] or None,
        **who(request),
    )
    return _answer(organization, end_user)


@api_view(["GET"])
@for_operators
def blocked(request: Request) -> Response:
    """Every block that counts now, the newest first."""
    query = request.query_params
    organization = organization_of(request, query.get("organization"))
    limit = numbers.up_to(request, "limit", MAX_LIMIT) or DEFAULT_LIMIT
    offset = numbers.up_to(request, "after", MAX_OFFSET)
    found = list(blocks.active(organization).order_by("-created_at", "-pk")[offset : offset + limit + 1])
    has_more = len(found) > limit
    return Response(
        {
            "object": "list",
            "data": [block_entry(each) for each in found[:limit]],
            "has_more": has_more,
            "next": str(offset + limit) if has_more else None,
        }
    )


def _answer(organization: Organization, end_user: str) -> Response:
    used = end_user_usage.this_month(organization, [end_user]).get(end_user)
    (told,) = _told(organization, [used or EndUserUsage(end_user)])
    return Response(told)


def _told(organization: Organization, found: list[EndUserUsage]) -> list[dict[str, Any]]:
    names = [each.end_user for each in found]
    thresholds = thresholds_of(organization, names)
    blocks_of: dict[str, EndUserBlock] = {
        each.end_user: each for each in blocks.active(organization).filter(end_user__in=names)
    }
    return [
        {
            "object": "end_user",
            "userId": each.end_user,
            "organization": organization.slug,
            "usage": usage_of(each),
            "threshold": thresholds[each.end_user],
            "blocked": each.end_user in blocks_of,
            "blockEntry": block_entry(blocks_of.get(each.end_user)),
        }
        for each in found
    ]
