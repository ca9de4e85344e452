"""`/v1/images`: what the gallery has. Public images for everybody, an organization's own for its keys."""

from typing import Any
from uuid import UUID

from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import Organization
from billing.money import format_credits
from gallery import browsing, keeping, links, showing
from gallery.browsing import Filter
from gallery.models import Image, Visibility
from proxy.api import numbers
from proxy.api.answers import moment
from proxy.api.authentication import Caller, KeyAuthentication, MayManage, who, wire_request
from proxy.gateway import keys
from proxy.gateway.errors import InvalidRequest, ScopeMissing
from proxy.gateway.owned import ObjectNotFound

SCOPE = "images"


class MaybeKey(KeyAuthentication):
    """A key if there is one: public images need none."""

    def authenticate(self, request: Request) -> Any:
        return super().authenticate(request) if keys.credential(wire_request(request)) else None


class MayUseImages(MayManage):
    """Nobody in particular, or a key with the scope `images`."""

    scope = SCOPE
    view_permission, change_permission = "usage.view", "images.manage"

    def has_permission(self, request: Request, view: Any) -> bool:
        return request.user is None or super().has_permission(request, view)


@api_view(["GET"])
@authentication_classes([MaybeKey])
@permission_classes([MayUseImages])
def images(request: Request) -> Response:
    """A cursor page of public images, or with `mine=1` of the organization's own; filters: model, size, q."""
    query = request.query_params
    visibility = query.get("visibility", "")
    if visibility:
        _check_visibility(visibility)
    which = Filter(
        model=query.get("model", "")[:200], size=query.get("size", "")[:20], search=query.get("q", "")[:200],
        visibility=visibility,
    )  # fmt: skip
    after, limit = numbers.whole(request, "after"), numbers.above_zero(request, "limit")
    size = browsing.PAGE_SIZE if limit is None else limit
    caller: Caller | None = request.user
    if query.get("mine") in {"1", "true"}:
        page = browsing.own(_organization(caller), which, after=after, size=size)
    else:
        page = browsing.public(which, after=after, size=size)
    mine = caller.organization.pk if caller else None
    return Response(
        {
            "object": "list",
            "data": [_as_dict(image, is_own=image.organization_id == mine) for image in page.images],
            "has_more": page.next is not None,
            "next": str(page.next) if page.next is not None else None,
        }
    )


@api_view(["GET", "PATCH", "DELETE"])
@authentication_classes([MaybeKey])
@permission_classes([MayUseImages])
def image(request: Request, public_id: UUID) -> Response:
    """One image: seen by whoever may, changed and deleted by its organization."""
    caller: Caller | None = request.user
    found = Image.objects.select_related("organization").filter(public_id=public_id).first()
    is_own = found is not None and caller is not None and found.organization_id == caller.organization.pk
    if found is None or (not is_own and (found.visibility == Visibility.PRIVATE or found.is_hidden)):
        raise ObjectNotFound("image", str(public_id))
    if request.method == "GET":
        return Response(_as_dict(found, is_own=is_own))
    if not is_own:
        raise ObjectNotFound("image", str(public_id)) if caller else ScopeMissing(SCOPE)
    if request.method == "DELETE":
        keeping.remove([found], **who(request))
        return Response({"id": str(public_id), "object": "image", "deleted": True})
    visibility = request.data.get("visibility")
    _check_visibility(visibility)
    showing.set_visibility([found], visibility, **who(request))
    found.refresh_from_db()
    return Response(_as_dict(found, is_own=True))


def _organization(caller: Caller | None) -> Organization:
    if caller is None:
        raise ScopeMissing(SCOPE)
    return caller.organization


def _check_visibility(visibility: Any) -> None:
    if visibility not in Visibility.values:
        raise InvalidRequest(f"'visibility' must be one of {', '.join(Visibility.values)}.", param="visibility")


def _as_dict(image: Image, *, is_own: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": str(image.public_id),
        "object": "image",
        "created_at": moment(image.created_at),
        "url": links.of(image),
        "thumbnail_url": links.thumbnail_of(image),
        "prompt": image.prompt,
        "model": image.model,
        "size": image.size or None,
        "quality": image.quality or None,
        "width": image.width,
        "height": image.height,
        "media_type": image.media_type,
        "bytes": image.byte_size,
        "visibility": image.visibility,
    }
    if is_own:
        told |= {
            "cost_credits": format_credits(image.cost_nanos),
            "seed": image.seed,
            "end_user": image.end_user or None,
            "request_id": f"req_{image.request_id.hex}",
            "is_hidden": image.is_hidden,
        }
    return told
