"""`/v1/sdk/*`: a server that calls a model elsewhere checks, reserves and records usage by the same rules.

What is committed or recorded is priced like a call through the gateway, and charged.
"""

import hashlib
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
from django.http import HttpResponse
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response

from billing import end_user_usage, ledger, price_lists, pricing, reservations
from billing.models import Hold
from billing.money import format_credits
from billing.pricing import InvalidUsage, Rate, Unpriced, Usage
from billing.rates import rate_of
from billing.slips import Capture, HoldRequest, Refused
from proxy.api import bounds, refusals, snapshot
from proxy.api.answers import moment, money
from proxy.api.authentication import Caller, wire_request
from proxy.api.bounds import Identity
from proxy.api.end_users import thresholds_of, usage_of
from proxy.api.errors import Conflict, NotFound
from proxy.api.sdk_fields import CheckFields, CommitFields, RecordFields, ReservationFields, ReserveFields, endpoint_of
from proxy.gateway import idempotency, keys, labels
from proxy.gateway.errors import IdempotencyConflict, InvalidRequest, ModelNotFound


@api_view(["POST"])
def check(request: Request) -> Response:
    """Whether the end user's next request would be let through; nothing is set aside."""
    caller: Caller = request.user
    fields = CheckFields.read(request.data)
    who = Identity(end_user=fields["userId"], run_id=fields["runId"])
    limits = list(bounds.of_subject(caller, who, cost=1, tokens=1))
    if caller.key.allowed_models and fields["model"] not in caller.key.allowed_models:
        limits.insert(0, bounds.Limit("allowed_models", True, "The key may not use this model.", "model_not_allowed"))
    limits += bounds.of_account(caller, needed=1)
    binding = [limit for limit in limits if limit.binds]
    used = end_user_usage.this_month(caller.organization, [who.end_user]).get(who.end_user)
    used = used or end_user_usage.EndUserUsage(who.end_user)
    return Response(
        {
            "object": "sdk_check",
            "allowed": not binding,
            "reason": binding[0].why if binding else None,
            "code": binding[0].code if binding else None,
            "userId": who.end_user,
            "model": fields["model"],
            "requestType": fields["requestType"],
            "blocked": any(limit.kind == "block" for limit in binding),
            "usage": usage_of(used),
            "threshold": thresholds_of(caller.organization, [who.end_user])[who.end_user],
            "limits": [limit.as_dict() for limit in limits],
        }
    )


@api_view(["POST"])
def record(request: Request) -> HttpResponse:
    """Charge and count usage that is over. With an `Idempotency-Key` a repeat is answered from the first one."""
    caller: Caller = request.user
    fields = RecordFields.read(request.data)
    rate = _rate(caller, fields["model"])
    usage = _usage(fields)
    cost = _cost(usage, rate)
    request_id = reservations.new_id()
    name = idempotency.read_key(request.headers.get("idempotency-key"))
    if name:
        body_sha = hashlib.sha256(orjson.dumps(request.data, option=orjson.OPT_SORT_KEYS)).digest()
        claimed = reservations.claim(
            organization_id=caller.key.organization_id, key=name, body_sha=body_sha, request_id=request_id
        )
        if claimed.state == "done" and claimed.body is not None:
            return HttpResponse(claimed.body, content_type="application/json", headers={"idempotent-replayed": "true"})
        if claimed.state != "new":
            raise IdempotencyConflict("This Idempotency-Key is in use for another request, or for one still running.")
    reservations.begin_end_user(caller.key.organization_id, fields["userId"])
    told = {
        "object": "usage_record",
        "requestId": str(request_id),
        "userId": fields["userId"],
        "model": rate.model,
        "totalTokens": usage.total_tokens,
        "cost": money(cost),
    }
    body = orjson.dumps(told)
    capture = _capture(request, request_id, fields, usage, cost=cost, rate=rate, end_user=fields["userId"])
    reservations.settle(_with_answer(capture, body) if name else capture)
    return HttpResponse(body, content_type="application/json")


@api_view(["POST"])
def reserve(request: Request) -> Response:
    """Set aside what a request to come may cost, for the end user's budgets too. Refused as the gateway refuses."""
    caller: Caller = request.user
    fields = ReserveFields.read(request.data)
    rate = _rate(caller, fields["model"])
    inputs, outputs = fields["inputTokens"], fields["outputTokens"]
    try:
        amount = max(1, pricing.worst_case(inputs, outputs, rate))
    except Unpriced as error:
        raise _unpriced(error) from None
    wire = bounds.identity_of(wire_request(request))
    answer = reservations.reserve(
        HoldRequest(
            request_id=(request_id := reservations.new_id()),
            account_id=caller.key.account_id,
            organization_id=caller.key.organization_id,
            key_id=caller.key.id,
            amount=amount,
            tokens=inputs + outputs,
            model=rate.model,
            endpoint=endpoint_of(fields["requestType"]),
            price_version=rate.version,
            end_user=fields["userId"],
            run_id=fields["runId"] or wire.run_id,
            run_cap=0 if wire.run_max_nanos is None else max(1, wire.run_max_nanos),
        )
    )
    if isinstance(answer, Refused):
        raise refusals.of(caller, answer, amount, tokens=inputs + outputs)
    hold = reservations.find(caller.key.organization_id, request_id)
    return Response(
        {
            "object": "reservation",
            "reservationId": str(request_id),
            "reserved": money(amount),
            "availableCredits": format_credits(answer.available),
            "expiresAt": moment(reservations.expires_at(hold)),
        },
        status=201,
    )


@api_view(["POST"])
def commit(request: Request) -> Response:
    """Charge what a reserved request really used and release the rest. May be repeated: the first one counts."""
    caller: Caller = request.user
    fields = CommitFields.read(request.data)
    hold = _open(caller, fields["reservationId"])
    if isinstance(hold, Response):
        return hold
    usage, rate = _usage(fields), rate_of(hold.price_version)
    cost = _cost(usage, rate)
    capture = _capture(
        request,
        hold.pk,
        fields,
        usage,
        cost=cost,
        rate=rate,
        end_user=hold.end_user,
        hold=hold,
    )
    settled = reservations.settle(capture)
    if not settled.recorded:
        ended = _open(caller, hold.pk)
        if isinstance(ended, Response):
            return ended
    return _committed(hold.pk, cost, settled.available)


@api_view(["POST"])
def cancel(request: Request) -> Response:
    """Release a reservation: nothing was used. May be repeated."""
    caller: Caller = request.user
    reservation_id = ReservationFields.read(request.data)["reservationId"]
    try:
        hold = reservations.find(caller.key.organization_id, reservation_id)
    except reservations.NoSuchReservation:
        raise _no_such() from None
    except reservations.AlreadyEnded as error:
        if error.record.cost_nanos:
            raise Conflict("This reservation was committed already.", code="reservation_committed") from None
        return Response({"object": "reservation", "reservationId": str(reservation_id), "status": "cancelled"})
    nothing = {"latencyMs": 0, "success": True}
    reservations.settle(
        _capture(
            request, hold.pk, nothing, Usage(), cost=0, rate=rate_of(hold.price_version), end_user=hold.end_user,
            hold=hold, outcome="client_closed", error_code="reservation_cancelled",
        )
    )  # fmt: skip
    return Response({"object": "reservation", "reservationId": str(reservation_id), "status": "cancelled"})


def _open(caller: Caller, reservation_id: UUID) -> Hold | Response:
    """The open reservation, or the answer where it was committed already. Raises where there is nothing to commit."""
    try:
        return reservations.find(caller.key.organization_id, reservation_id)
    except reservations.NoSuchReservation:
        raise _no_such() from None
    except reservations.AlreadyEnded as error:
        if error.has_expired:
            raise Conflict(
                "This reservation has expired. Record the usage with /v1/sdk/record.", code="reservation_expired"
            ) from None
        if error.record.error_code == "reservation_cancelled":
            raise Conflict("This reservation was cancelled.", code="reservation_cancelled") from None
        available = ledger.balance_of(caller.organization).available
        return _committed(reservation_id, error.record.cost_nanos, available)


def _committed(request_id: UUID, cost: int, available: int) -> Response:
    told = {"object": "usage_record", "requestId": str(request_id), "cost": money(cost)}
    return Response(told | {"availableCredits": format_credits(available)})


def _no_such() -> NotFound:
    return NotFound("There is no such reservation.", param="reservationId", code="reservation_not_found")


def _rate(caller: Caller, model: str) -> Rate:
    """The selling price of `model`, whether or not we serve it. Raises `ModelNotFound` or `ModelNotAllowed`."""
    route = snapshot.current(caller.organization).find(model)
    rate = route.rate if route is not None else None
    name = route.model if route is not None else model
    keys.authorize_model(caller.key, model, name)
    rate = rate or price_lists.rates_for(caller.organization).get(name)
    if rate is None:
        raise ModelNotFound(model)
    return rate


def _usage(fields: dict[str, Any]) -> Usage:
    """What was used: OpenAI's own usage object if it was sent, else the counts."""
    raw = fields["usage"] or {"input_tokens": fields["inputTokens"], "output_tokens": fields["outputTokens"]}
    try:
        usage = pricing.usage_from_openai(raw)
    except InvalidUsage as error:
        raise InvalidRequest(str(error), param=f"usage.{error.field}") from None
    if usage is None:
        raise InvalidRequest("'usage' tells neither tokens nor seconds.", param="usage")
    return usage


def _cost(usage: Usage, rate: Rate) -> int:
    try:
        return pricing.cost(usage, rate)
    except Unpriced as error:
        raise _unpriced(error) from None


def _unpriced(error: Unpriced) -> InvalidRequest:
    return InvalidRequest(
        f"The model {error.model!r} has no price for {error.unit}.", param="model", code="model_not_priced"
    )


def _capture(
    request: Request,
    request_id: UUID,
    fields: dict[str, Any],
    usage: Usage,
    *,
    cost: int,
    rate: Rate,
    end_user: str,
    hold: Hold | None = None,
    outcome: str = "",
    error_code: str = "",
) -> Capture:
    caller: Caller = request.user
    succeeded = fields["success"]
    return Capture(
        request_id=request_id,
        account_id=caller.key.account_id,
        organization_id=caller.key.organization_id,
        key_id=hold.key_id if hold is not None else caller.key.id,
        model=rate.model,
        endpoint=hold.endpoint if hold is not None else endpoint_of(fields["requestType"]),
        outcome=outcome or ("completed" if succeeded else "upstream_error"),
        status_code=200 if succeeded else 502,
        cost=cost,
        hold=hold.amount if hold is not None else 0,
        price_version=rate.version,
        provider="elsewhere",
        end_user=end_user,
        run_id=hold.run_id if hold is not None else fields["runId"],
        org_label=labels.read(wire_request(request), labels.ORGANIZATION),
        **usage.columns(),
        usage=fields.get("usage") or None,
        service_tier="default",
        latency_ms=fields["latencyMs"],
        error_code=error_code or ("" if succeeded else "reported_failure"),
    )


def _with_answer(capture: Capture, body: bytes) -> Capture:
    return replace(capture, response=reservations.stored(body))
