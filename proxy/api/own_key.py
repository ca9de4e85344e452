"""`GET /v1/key`: what a key may do, and what is left of it."""

from django.conf import settings
from rest_framework.decorators import api_view, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from billing import ledger, standings
from billing.money import format_credits
from proxy.api.answers import cap_as_dict, moment
from proxy.api.authentication import Caller, OnlyKey


@api_view(["GET"])
@permission_classes([OnlyKey])
def own_key(request: Request) -> Response:
    caller: Caller = request.user
    row, key = caller.row, caller.key
    return Response(
        {
            "object": "api_key",
            "id": str(row.public_id),
            "name": row.name,
            "key": row.masked,
            "organization": caller.organization.slug,
            "scopes": row.scopes,
            "allowed_models": row.allowed_models,
            "allowed_endpoints": row.allowed_endpoints,
            "allowed_ips": row.allowed_ips,
            "created_at": moment(row.created_at),
            "expires_at": moment(row.expires_at),
            "ends_at": moment(row.revoked_at),
            "last_used_at": moment(row.last_used_at),
            "rate_limits": {
                "requests_per_minute": rpm_of(caller) or None,
                "tokens_per_minute": key.tpm,
                "concurrent_requests": key.max_concurrent or None,
                "organization": {
                    "requests_per_minute": key.organization_rpm or None,
                    "tokens_per_minute": key.organization_tpm or None,
                    "concurrent_requests": key.organization_max_concurrent or None,
                },
            },
            "budgets": [cap_as_dict(cap) for cap in standings.caps_of(caller.organization, key=row)],
            "credits": credits_of(caller),
        }
    )


def rpm_of(caller: Caller) -> int:
    """Requests a minute of the caller's key; 0: no limit."""
    return settings.DEFAULT_RPM if caller.key.rpm is None else caller.key.rpm


def credits_of(caller: Caller) -> dict[str, str] | None:
    """The organization's credit; None where this installation sells none."""
    if settings.IS_SELF_HOSTED:
        return None
    balance = ledger.balance_of(caller.organization)
    return {"available": format_credits(balance.available), "held": format_credits(balance.held)}
