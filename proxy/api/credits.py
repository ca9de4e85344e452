"""`/v1/credits/packs`, `purchase`, `transactions` and `transfer`. None of it is there where no credit is sold."""

import csv
import io
from typing import Any

from django.conf import settings
from django.db import models
from django.http import HttpResponse
from rest_framework.decorators import api_view, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Organization
from billing import ledger, moves, purchases, statements, stripe_api
from billing.ledger import IdempotencyMismatch
from billing.models import Pack, Transfer
from billing.money import InvalidAmount, format_credits, nanos_from_credits
from proxy.api import numbers
from proxy.api.answers import moment
from proxy.api.authentication import AnyKey, Caller, may, who
from proxy.api.errors import Conflict, NotFound
from proxy.gateway.errors import InsufficientQuota, InvalidRequest, Unavailable, UnknownUrl

DEFAULT_LIMIT, MAX_LIMIT = 50, 1_000
MAX_KEY = 100


@api_view(["GET"])
@permission_classes([AnyKey])
def packs(request: Request) -> Response:
    """What can be bought at once."""
    _sold(request)
    return Response({"object": "list", "data": [_pack(pack) for pack in Pack.objects.filter(is_active=True)]})


@api_view(["POST"])
@permission_classes([may("billing.manage")])
def purchase(request: Request) -> Response:
    """An order for `pack_id`, and the address of the page to pay it."""
    _sold(request)
    caller: Caller = request.user
    pack = Pack.objects.filter(slug=str(request.data.get("pack_id", ""))[:40], is_active=True).first()
    if pack is None:
        raise InvalidRequest("'pack_id' must be the id of a pack: see GET /v1/credits/packs.", param="pack_id")
    if request.data.get("payment_method", "stripe") != "stripe":
        raise InvalidRequest("'payment_method' must be 'stripe'.", param="payment_method")
    if not stripe_api.is_on():
        raise InvalidRequest("This installation sells no credit online.", code="payments_off")
    order = purchases.order(organization=caller.organization, pack=pack, **who(request))
    try:
        url = stripe_api.checkout(order)
    except stripe_api.StripeUnavailable as error:
        raise Unavailable(str(error)) from None
    return Response(
        {
            "id": str(order.public_id),
            "object": "credit_purchase",
            "status": order.status,
            "pack": _pack(pack),
            "payment_method": "stripe",
            "checkout_url": url,
        }
    )


@api_view(["GET"])
@permission_classes([may("billing.view")])
def transactions(request: Request) -> HttpResponse:
    """Every movement of the balance, the newest first: cursor pages by `after`, or all of a page as CSV."""
    _sold(request)
    caller: Caller = request.user
    query = request.query_params
    limit = numbers.page_size(request, DEFAULT_LIMIT, MAX_LIMIT)
    account = ledger.account_of(caller.organization)
    rows = Transfer.objects.filter(models.Q(debit=account) | models.Q(credit=account)).order_by("-pk")
    after = numbers.above_zero(request, "after")
    if after is not None:
        rows = rows.filter(pk__lt=after)
    kind = query.get("type", "")
    if kind:
        if kind not in Transfer.Kind.values:
            raise InvalidRequest(f"'type' must be one of {', '.join(Transfer.Kind.values)}.", param="type")
        rows = rows.filter(kind=kind)
    found = list(rows[: limit + 1])
    shown = [_transaction(row, account.pk) for row in found[:limit]]
    if query.get("format") == "csv":
        return _as_csv(shown)
    has_more = len(found) > limit
    return Response(
        {
            "object": "list",
            "data": shown,
            "has_more": has_more,
            "next": str(found[limit - 1].pk) if has_more else None,
        }
    )


@api_view(["POST"])
@permission_classes([may("billing.manage")])
def transfer(request: Request) -> Response:
    """Give credit to another organization. With `idempotency_key`, a repeat is the first one."""
    _sold(request)
    caller: Caller = request.user
    slug = request.data.get("to")
    if not isinstance(slug, str) or not slug:
        raise InvalidRequest("'to' must name the organization that gets the credit, as in its address.", param="to")
    recipient = Organization.objects.filter(slug=slug[:60]).first()
    if recipient is None:
        raise NotFound("There is no such organization.", param="to")
    amount = amount_of(request.data.get("credits"))
    key = request.data.get("idempotency_key", "")
    if not isinstance(key, str) or len(key) > MAX_KEY:
        raise InvalidRequest(f"'idempotency_key' must be a text of at most {MAX_KEY} characters.")
    try:
        moved = moves.send(
            sender=caller.organization,
            recipient=recipient,
            amount=amount,
            idempotency_key=key,
            memo=str(request.data.get("memo", ""))[:200],
            **who(request),
        )
    except moves.NotEnough as problem:
        url = f"{settings.SITE_URL}/o/{caller.organization.slug}/billing/"
        raise InsufficientQuota(str(problem), top_up_url=url) from None
    except moves.InvalidMove:
        raise InvalidRequest("'to' must be another organization, 'credits' more than 0.", param="to") from None
    except IdempotencyMismatch:
        raise Conflict("This idempotency_key was used for another transfer.") from None
    return Response(_transaction(moved, moved.debit_id))


def amount_of(value: object, name: str = "credits") -> int:
    """Nano-dollars of a number or decimal text of credits. Raises `InvalidRequest`."""
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InvalidAmount(value)
        return nanos_from_credits(str(value))
    except InvalidAmount:
        raise InvalidRequest(f"'{name}' must be an amount of credits, such as \"12.5\".", param=name) from None


def _sold(request: Request) -> None:
    if settings.IS_SELF_HOSTED:
        raise UnknownUrl(request.method or "", request.path)


def _pack(pack: Pack) -> dict[str, Any]:
    return {
        "id": pack.slug,
        "object": "credit_pack",
        "name": pack.name,
        "credits": pack.credits,
        "bonus_credits": pack.bonus_credits,
        "total_credits": pack.total_credits,
        "price_cents": pack.price_cents,
        "currency": pack.currency,
        "is_popular": pack.is_popular,
    }


def _transaction(row: Transfer, account_id: int) -> dict[str, Any]:
    amount = row.amount if row.credit_id == account_id else -row.amount
    return {
        "id": str(row.pk),
        "object": "credit_transaction",
        "type": row.kind,
        "label": statements.label_of(row.kind),
        "credits": format_credits(amount),
        "memo": row.memo,
        "created_at": moment(row.created_at),
    }


def _as_csv(rows: list[dict[str, Any]]) -> HttpResponse:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["id", "created_at", "type", "credits", "memo"], extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow(row | {"memo": statements.plain(row["memo"])})
    return HttpResponse(out.getvalue(), content_type="text/csv; charset=utf-8")
