"""`GET /v1/receipts/{request_id}`: the signed receipt of a request; and the public keys that check it."""

from uuid import UUID

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe
from rest_framework.decorators import api_view, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from billing import rates, signed_receipts
from billing.models import UsageRecord
from proxy.api.authentication import SCOPE, AnyKey, Caller
from proxy.api.errors import NotFound


@api_view(["GET"])
@permission_classes([AnyKey])
def receipt(request: Request, request_id: str) -> Response:
    """Of a request of this key; of any of its organization's, for a key that may manage."""
    caller: Caller = request.user
    rows = UsageRecord.objects.filter(organization=caller.organization)
    if caller.key.scopes and SCOPE not in caller.key.scopes:
        rows = rows.filter(key=caller.row)
    try:
        record = rows.filter(request_id=UUID(request_id.removeprefix("req_"))).first()
        if record is None:
            raise NotFound("There is no such request.")
        signed = signed_receipts.of(record)
    except (ValueError, rates.NoSuchPrice):
        raise NotFound("There is no receipt of such a request.") from None
    return Response({"object": "receipt", **signed})


@require_safe
def keys(request: HttpRequest) -> JsonResponse:
    """A JWK Set (RFC 7517)."""
    answer = JsonResponse({"keys": [signed_receipts.jwk()]})
    answer["Cache-Control"] = "public, max-age=3600"
    answer["Access-Control-Allow-Origin"] = "*"
    return answer
