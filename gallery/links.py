"""Addresses of images: plain for public and unlisted ones, signed and expiring for private ones.

They end when fewer may see the image than before: the address that follows has the next version in it.
"""

from uuid import UUID

from django.conf import settings
from django.core import signing
from django.urls import reverse

from gallery.models import Image, Visibility

SALT = "gallery.image"
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}


def url_of(public_id: UUID, media_type: str, visibility: str, version: int = 0) -> str:
    """The absolute address of an image's bytes."""
    url = settings.SITE_URL + _path(public_id, media_type, version)
    return url if visibility != Visibility.PRIVATE else f"{url}?s={sign(public_id)}"


def path_of(image: Image) -> str:
    """The path of an image's bytes on this site, without a signature."""
    return _path(image.public_id, image.media_type, image.version)


def of(image: Image) -> str:
    """The address to show for `image`: at the CDN if it is public and lies there."""
    if image.name and _is_at_cdn(image):
        return f"{settings.R2_PUBLIC_URL}/{image.name}"
    return url_of(image.public_id, image.media_type, image.visibility, image.version)


def thumbnail_of(image: Image) -> str:
    """The address of the thumbnail; of the image itself while there is none."""
    if not image.thumbnail:
        return of(image)
    if _is_at_cdn(image):
        return f"{settings.R2_PUBLIC_URL}/{image.thumbnail}"
    versions = [image.version] if image.version else []
    url = settings.SITE_URL + reverse("gallery:thumbnail", args=[image.public_id, *versions])
    return url if image.visibility != Visibility.PRIVATE else f"{url}?s={sign(image.public_id)}"


def sign(public_id: UUID) -> str:
    return signing.TimestampSigner(salt=SALT).sign(public_id.hex).partition(":")[2]


def is_signed(public_id: UUID, signature: str) -> bool:
    """Whether the signature is ours and not older than `GALLERY_LINK_S`."""
    try:
        signing.TimestampSigner(salt=SALT).unsign(f"{public_id.hex}:{signature}", max_age=settings.GALLERY_LINK_S)
    except signing.BadSignature:
        return False
    return True


def _path(public_id: UUID, media_type: str, version: int) -> str:
    versions = [version] if version else []
    return reverse("gallery:file", args=[public_id, *versions, EXTENSIONS.get(media_type, "bin")])


def _is_at_cdn(image: Image) -> bool:
    is_public = image.visibility == Visibility.PUBLIC and not image.is_hidden
    return is_public and not image.is_moving and bool(settings.R2_PUBLIC_URL)
