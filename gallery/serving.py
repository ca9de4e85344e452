"""The bytes of images over HTTP: who may have them, how long they may be kept, parts of them (RFC 9110, RFC 9111)."""

import re
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from gallery import keeping, links
from gallery.models import Image, Visibility

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
# A browser keeps it for a year; what others share asks again after a day, so that it learns what has ended.
PUBLIC_CACHING = "public, max-age=31536000, s-maxage=86400, immutable"
_SHOWN = frozenset(links.EXTENSIONS)


@require_safe
def file(request: HttpRequest, public_id: UUID, extension: str, version: int = 0) -> HttpResponse:
    """The original, as it was made."""
    image = _allowed(request, public_id, version)
    return _answer(request, image, image.media_type, image.sha256, keeping.read(image))


@require_safe
def thumbnail(request: HttpRequest, public_id: UUID, version: int = 0) -> HttpResponse:
    """The WebP thumbnail."""
    image = _allowed(request, public_id, version)
    if not image.thumbnail:
        raise Http404
    return _answer(request, image, "image/webp", f"{image.sha256}-t", keeping.read(image, thumbnail=True))


def _allowed(request: HttpRequest, public_id: UUID, version: int) -> Image:
    """The image if the request may see it; to others there is none, and at an address that has ended to nobody."""
    image = get_object_or_404(Image, public_id=public_id, version=version)
    if image.visibility != Visibility.PRIVATE and not image.is_hidden:
        return image
    if links.is_signed(public_id, request.GET.get("s", "")):
        return image
    user = request.user
    if user.is_authenticated and user.organizations.filter(pk=image.organization_id).exists():
        return image
    raise Http404


def _answer(request: HttpRequest, image: Image, media_type: str, tag: str, data: bytes | None) -> HttpResponse:
    if data is None:
        raise Http404
    etag = f'"{tag}"'
    if etag in request.headers.get("if-none-match", ""):
        response = HttpResponse(status=304)
    else:
        response = _part(request, data, media_type)
    is_public = image.visibility != Visibility.PRIVATE and not image.is_hidden
    response["ETag"] = etag
    response["Cache-Control"] = PUBLIC_CACHING if is_public else "private, max-age=600"
    response["Accept-Ranges"] = "bytes"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    shown = "inline" if media_type in _SHOWN else "attachment"
    response["Content-Disposition"] = f'{shown}; filename="{image.public_id}.{links.EXTENSIONS.get(media_type, "bin")}"'
    return response


def _part(request: HttpRequest, data: bytes, media_type: str) -> HttpResponse:
    """All of it, or the one range that was asked for; several ranges are answered with all of it."""
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or found.group(0) == "bytes=-":
        return HttpResponse(data, content_type=media_type)
    first, last = found.groups()
    size = len(data)
    start = int(first) if first else max(0, size - int(last))
    end = min(size - 1, int(last)) if first and last else size - 1
    if start > end:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    headers = {"Content-Range": f"bytes {start}-{end}/{size}"}
    return HttpResponse(data[start : end + 1], status=206, content_type=media_type, headers=headers)
