"""`GET /v1/events`: what webhooks are told, for whoever asks in place of listening. Gap-free, in a fixed order."""

from typing import Any

from rest_framework.decorators import api_view, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import events, tenancy
from accounts.models import Event, Organization
from proxy.api import numbers
from proxy.api.authentication import Caller, Member, may
from proxy.gateway.errors import InvalidRequest

DEFAULT_LIMIT, MAX_LIMIT = 100, 1_000


@api_view(["GET"])
@permission_classes([may("webhooks.manage")])
def feed(request: Request) -> Response:
    """The organization's events after the cursor `after`, the oldest first; `next` is the cursor to ask with again.

    An event that appears later is always after one that was given: a reader that goes on from `next` misses none.
    """
    caller: Caller | Member = request.user
    query = request.query_params
    limit = numbers.between(request, "limit", MAX_LIMIT, DEFAULT_LIMIT, f"'limit' must be between 1 and {MAX_LIMIT}.")
    try:
        after = events.Cursor.read(query["after"]) if query.get("after") else events.Cursor()
    except events.InvalidCursor:
        raise InvalidRequest("'after' must be a cursor of an earlier answer.", param="after") from None
    with tenancy.within(caller.organization):
        found = events.since(after, limit=limit + 1, organization=caller.organization)
    shown = found[:limit]
    return Response(
        {
            "object": "list",
            "data": [_told(event, caller.organization) for event in shown],
            "has_more": len(found) > limit,
            "next": str(events.Cursor.of(shown[-1]) if shown else after),
        }
    )


def _told(event: Event, organization: Organization) -> dict[str, Any]:
    """An event as webhooks send it, with its place in the feed."""
    return {"object": "event", **events.as_dict(event, organization), "cursor": str(events.Cursor.of(event))}
