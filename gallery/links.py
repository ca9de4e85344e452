"""Addresses of images: plain for public and unlisted ones, signed and expiring for private ones."""

from uuid import UUID

from django.conf import settings
from django.core import signing
from django.urls import reverse

from gallery.models import Image, Visibility

SALT = "gallery.image"
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}


def url_of(public_id: UUID, media_type: str, visibility: str) -> str:
    """The absolute address of an image's bytes."""
    extension = EXTENSIONS.get(media_type, "bin")
    url = settings.SITE_URL + reverse("gallery:file", args=[public_id, extension])
    return url if visibility != Visibility.PRIVATE else f"{url}?s={sign(public_id)}"


def of(image: Image) -> str:
    """The address to show for `image`: at the CDN if it is public and lies there."""
    if image.visibility == Visibility.PUBLIC and not image.is_hidden and image.name and settings.R2_PUBLIC_URL:
        return f"{settings.R2_PUBLIC_URL}/{image.name}"
    return url_of(image.public_id, image.media_type, image.visibility)


def thumbnail_of(image: Image) -> str:
    """The address of the thumbnail; of the image itself while there is none."""
    if not image.thumbnail:
        return of(image)
    if image.visibility == Visibility.PUBLIC and not image.is_hidden and settings.R2_PUBLIC_URL:
        return f"{settings.R2_PUBLIC_URL}/{image.thumbnail}"
    url = settings.SITE_URL + reverse("gallery:thumbnail", args=[image.public_id])
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
