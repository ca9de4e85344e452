"""`/v1/admin/credits/…`: credit of any organization, for operators."""

from uuid import uuid4

from django.db.models import Count, Q, Sum
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Organization
from billing import ledger, moves
from billing.ledger import IdempotencyMismatch
from billing.models import Account, AccountKind, Order, Transfer
from billing.money import format_credits
from proxy.api.credits import amount_of
from proxy.api.errors import Conflict, NotFound
from proxy.api.operators import for_operators, who
from proxy.gateway.errors import InvalidRequest

MAX_REASON = 500


@api_view(["POST"])
@for_operators
def adjust(request: Request) -> Response:
    """Add `credits`, or take as many where they are negative; `reason` is shown to the organization."""
    return _adjusted(request, 0)


@api_view(["POST"])
@for_operators
def deposit(request: Request) -> Response:
    """Add `credits`."""
    return _adjusted(request, 1)


@api_view(["POST"])
@for_operators
def deduct(request: Request) -> Response:
    """Take `credits`: never more than are available."""
    return _adjusted(request, -1)


@api_view(["GET"])
@for_operators
def stats(request: Request) -> Response:
    """The installation's credit: what customers have, what was bought, given, spent and taken back."""
    totals = {
        row["kind"]: row["total"] for row in Transfer.objects.order_by().values("kind").annotate(total=Sum("amount"))
    }
    customers = Account.objects.filter(kind=AccountKind.CUSTOMER).aggregate(
        posted=Sum("posted"),
        unsettled=Sum("unsettled"),
        held=Sum("held"),
        accounts=Count("pk"),
        overdrawn=Count("pk", filter=Q(overdrawn_reason__isnull=False)),
        frozen=Count("pk", filter=Q(status=Account.Status.FROZEN)),
    )
    paid = Order.objects.filter(status=Order.Status.PAID).aggregate(count=Count("pk"), cents=Sum("paid_cents"))
    outstanding = (customers["posted"] or 0) - (customers["unsettled"] or 0)
    return Response(
        {
            "object": "credit_stats",
            "outstanding": format_credits(outstanding),
            "held": format_credits(customers["held"] or 0),
            "accounts": customers["accounts"],
            "overdrawn_accounts": customers["overdrawn"],
            "frozen_accounts": customers["frozen"],
            "by_type": {kind: format_credits(totals.get(kind, 0)) for kind in Transfer.Kind.values},
            "orders": {"paid": paid["count"], "paid_cents": paid["cents"] or 0},
        }
    )


def _adjusted(request: Request, sign: int) -> Response:
    organization = Organization.objects.filter(slug=str(request.data.get("organization", ""))[:60]).first()
    if organization is None:
        raise NotFound("There is no such organization.", param="organization")
    amount = amount_of(request.data.get("credits"))
    if sign:
        if amount <= 0:
            raise InvalidRequest("'credits' must be more than 0.", param="credits")
        amount *= sign
    reason = request.data.get("reason")
    if not isinstance(reason, str) or not reason.strip() or len(reason) > MAX_REASON:
        raise InvalidRequest(f"'reason' must be a text of at most {MAX_REASON} characters.", param="reason")
    given = request.data.get("idempotency_key") or uuid4().hex
    key = f"admin:{organization.pk}:{str(given)[:100]}"
    try:
        moved = moves.adjust(
            organization=organization, amount=amount, reason=reason.strip(), idempotency_key=key, **who(request)
        )
    except moves.NotEnough as problem:
        raise InvalidRequest(str(problem), param="credits", code="insufficient_credit") from None
    except moves.InvalidMove:
        raise InvalidRequest("'credits' must not be 0.", param="credits") from None
    except IdempotencyMismatch:
        raise Conflict("This idempotency_key was used for another adjustment.") from None
    balance = ledger.balance_of(organization)
    return Response(
        {
            "object": "credit_adjustment",
            "id": str(moved.pk),
            "organization": organization.slug,
            "credits": format_credits(amount),
            "available": format_credits(balance.available),
        }
    )
