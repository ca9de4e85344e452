"""`POST /v1/quote`, `POST /v1/credits/estimate`, `GET /v1/credits/pricing`, `GET /v1/credits/balance`."""

from typing import Any

from django.conf import settings
from rest_framework.decorators import api_view, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Organization
from billing import expectations, ledger
from billing.models import Price
from billing.money import format_credits, format_usd
from billing.pricing import MILLION, Rate
from proxy.api import bounds, quoting, snapshot
from proxy.api.answers import money
from proxy.api.authentication import AnyKey, Caller, may, wire_request
from proxy.api.quoting import Quote
from proxy.gateway.errors import UnknownUrl
from proxy.gateway.snapshots import Route


@api_view(["POST"])
@permission_classes([AnyKey])
def quote(request: Request) -> Response:
    """The hold, the expected cost and every limit of a body; `endpoint` beside it says which it is for, if need be."""
    caller: Caller = request.user
    quoted, expected = _quoted(request)
    who = bounds.identity_of(wire_request(request), quoted.job.end_user)
    limits = bounds.of_quote(caller, quoted, who)
    return Response(
        {
            "object": "quote",
            **_subject(quoted),
            "hold": money(quoted.hold_nanos)
            | {"input_tokens": quoted.job.input_tokens, "output_tokens": quoted.output_tokens},
            "expected": expected,
            "is_allowed": not any(limit.binds for limit in limits),
            "binding": [limit.as_dict() for limit in limits if limit.binds],
            "limits": [limit.as_dict() for limit in limits],
        }
    )


@api_view(["POST"])
@permission_classes([AnyKey])
def estimate(request: Request) -> Response:
    """What any endpoint's body will probably cost, and at most."""
    caller: Caller = request.user
    quoted, expected = _quoted(request)
    told = {
        "object": "credit_estimate",
        **_subject(quoted),
        "estimated_credits": expected["credits"],
        "max_credits": format_credits(quoted.hold_nanos),
        "estimated_usd": expected["usd"],
        "max_usd": format_usd(quoted.hold_nanos, 9),
        "input_tokens": quoted.job.prompt_tokens,
        "output_tokens": expected["output_tokens"],
        "basis": expected["basis"],
    }
    if not settings.IS_SELF_HOSTED:
        available = ledger.balance_of(caller.organization).available
        told |= {"available_credits": format_credits(available), "is_affordable": quoted.hold_nanos <= available}
    return Response(told)


@api_view(["GET"])
@permission_classes([may("usage.view")])
def balance(request: Request) -> Response:
    """The organization's credit. Not there where none is sold."""
    caller: Caller = request.user
    if settings.IS_SELF_HOSTED:
        raise UnknownUrl("GET", request.path)
    figures = ledger.balance_of(caller.organization)
    return Response(
        {
            "object": "credit_balance",
            "organization": caller.organization.slug,
            "balance": format_credits(figures.posted - figures.unsettled),
            "held": format_credits(figures.held),
            "credit_limit": format_credits(figures.credit_limit),
            "available": format_credits(figures.available),
            "available_usd": format_usd(figures.available, 9),
        }
    )


@api_view(["GET"])
@permission_classes([AnyKey])
def pricing(request: Request) -> Response:
    """The price of every model that this key may use, in credits and as the price book has it, in dollars."""
    caller: Caller = request.user
    routes = snapshot.current(caller.organization).routes
    versions = {route.rate.version for route in routes.values() if route.rate is not None}
    rows = dict(Price.objects.filter(pk__in=versions).values_list("pk", "rates"))
    allowed = caller.key.allowed_models
    data = [
        _priced(route, route.rate, rows.get(route.rate.version))
        for name, route in routes.items()
        if name == route.model and route.is_listed and route.rate is not None and (not allowed or name in allowed)
    ]
    return Response({"object": "list", "data": data})


def _quoted(request: Request) -> tuple[Quote, dict[str, Any]]:
    """The body priced, and what it will probably cost."""
    caller: Caller = request.user
    body = dict(request.data)
    endpoint = body.pop("endpoint", "") or request.query_params.get("endpoint", "")
    catalog = snapshot.current(caller.organization)
    quoted = quoting.quote(body, catalog, endpoint=endpoint if isinstance(endpoint, str) else "")
    outputs, basis = _likely(quoted, caller.organization)
    expected = money(quoted.expected_nanos(outputs))
    return quoted, expected | {"input_tokens": quoted.job.prompt_tokens, "output_tokens": outputs, "basis": basis}


def _likely(quoted: Quote, organization: Organization) -> tuple[int, str]:
    """How many output tokens to expect, and by what: the request itself where it decides that, the organization's
    earlier ones, or the most that it may produce."""
    most, likely = quoted.output_tokens, quoted.likely_tokens
    if not most:
        return 0, "limit"
    if likely is not None:
        return min(most, likely), "request"
    mean = expectations.mean_output_tokens(organization, model=quoted.route.model, endpoint=quoted.endpoint.path)
    return (most, "limit") if mean is None else (min(most, mean), "history")


def _subject(quoted: Quote) -> dict[str, Any]:
    images = quoted.images
    beside = {} if images is None else {"images": {**_subject(images), "hold": money(images.hold_nanos)}}
    return {
        "endpoint": quoted.endpoint.path,
        "model": quoted.route.model,
        "service_tier": quoted.job.tier,
        "price_version": quoted.rate.version,
        **beside,
    }


def _priced(route: Route, rate: Rate, row: Any) -> dict[str, Any]:
    kinds = {name: price for name in rate.base.__dataclass_fields__ if (price := getattr(rate.base, name)) is not None}
    return {
        "object": "price",
        "model": route.model,
        "owned_by": route.owned_by,
        "endpoints": sorted(route.endpoints),
        "price_version": rate.version,
        "credits_per_million_tokens": {name: format_credits(price) for name, price in kinds.items()},
        "units": {
            meter: {"credits_per_million": format_credits(unit.nanos_per_million), "per": unit.size * MILLION}
            for meter, unit in rate.units.items()
        },
        "rates_usd": row,
    }
