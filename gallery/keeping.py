"""Keeping images: into the spool with the answer, from there into the storage, with a thumbnail; and out again."""

import hashlib
import io
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import httpx
import structlog
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from PIL import Image as Picture
from PIL import UnidentifiedImageError

from accounts import audit
from accounts.models import Organization, User
from gallery.models import GallerySettings, Image, Orphan, SpooledImage, Visibility

log = structlog.get_logger(__name__)

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
# By their first bytes, for what has to be known before anything is decoded.
_MAGIC = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))
MAX_PIXELS = 40_000_000
MAX_BYTES = 50 * 1024 * 1024
THUMBNAIL = (512, 512)
MAX_PROMPT = 32_000
RETRY = timedelta(minutes=1)
MAX_RETRY = timedelta(hours=6)
BATCH = 50


@dataclass(frozen=True, slots=True)
class Made:
    """One image as it came from a model, and what made it."""

    public_id: UUID
    organization_id: int
    key_id: int
    request_id: UUID
    data: bytes
    media_type: str
    prompt: str
    model: str
    size: str
    quality: str
    seed: int | None
    cost_nanos: int
    end_user: str
    visibility: str


def sniff(data: bytes) -> str:
    """The media type of an image by its first bytes; `application/octet-stream` of anything else."""
    for magic, media_type in _MAGIC:
        if data.startswith(magic):
            return media_type
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "application/octet-stream"


def settings_of(organization: Organization) -> GallerySettings:
    """What the organization wants; the defaults where it said nothing."""
    return settings_among([organization])[organization.pk]


def settings_among(organizations: Collection[Organization]) -> dict[int, GallerySettings]:
    """The same of several, by their ids."""
    found = {one.organization_id: one for one in GallerySettings.objects.filter(organization__in=organizations)}
    return {one.pk: found.get(one.pk) or GallerySettings(organization=one) for one in organizations}


def keep(images: list[Made]) -> None:
    """Write rows and bytes in one transaction. May run twice: an image that is there stays as it is."""
    with transaction.atomic():
        for made in images:
            image, is_new = Image.objects.get_or_create(
                public_id=made.public_id,
                defaults={
                    "organization_id": made.organization_id,
                    "key_id": made.key_id,
                    "request_id": made.request_id,
                    "end_user": made.end_user,
                    "prompt": made.prompt[:MAX_PROMPT].replace("\0", ""),
                    "model": made.model,
                    "size": made.size[:20],
                    "quality": made.quality[:20],
                    "seed": made.seed,
                    "cost_nanos": made.cost_nanos,
                    "media_type": made.media_type,
                    "byte_size": len(made.data),
                    "sha256": hashlib.sha256(made.data).hexdigest(),
                    "visibility": made.visibility,
                },
            )
            if is_new:
                SpooledImage.objects.create(image=image, data=made.data)


def store_due() -> int:
    """Move spooled images into the storage, each once; how many. What fails is tried again, later each time."""
    stored = 0
    for _ in range(BATCH):
        with transaction.atomic():
            spooled = (
                SpooledImage.objects.select_for_update(skip_locked=True, of=("self",))
                .select_related("image__organization")
                .filter(next_at__lte=timezone.now())
                .order_by("next_at")
                .first()
            )
            if spooled is None:
                return stored
            try:
                _store(spooled.image, bytes(spooled.data))
            except Exception as error:  # whatever a storage's driver raises
                log.warning("image_not_stored", image=str(spooled.image.public_id), error=type(error).__name__)
                pause = min(MAX_RETRY, RETRY * 2 ** min(spooled.attempts, 10))
                SpooledImage.objects.filter(pk=spooled.pk).update(
                    attempts=F("attempts") + 1, next_at=timezone.now() + pause
                )
                continue
            spooled.delete()
            stored += 1
    return stored


def _store(image: Image, data: bytes) -> None:
    """Original as made, thumbnail if it can be decoded."""
    picture = decode(data)
    if picture is not None:
        image.width, image.height = picture.size
        image.media_type = MEDIA_TYPES[picture.format or "PNG"]
        thumbnail = picture.convert("RGB")
        thumbnail.thumbnail(THUMBNAIL)
        out = io.BytesIO()
        thumbnail.save(out, "WEBP", quality=80)
        image.thumbnail = default_storage.save(new_name(image, "webp"), ContentFile(out.getvalue()))
    else:
        image.media_type = "application/octet-stream"
    extension = image.media_type.rpartition("/")[2] if picture is not None else "bin"
    image.name = default_storage.save(new_name(image, extension), ContentFile(data))
    if image.visibility == Visibility.PUBLIC and not image.is_nsfw:
        image.is_nsfw = is_flagged(image.prompt)
    image.save(update_fields=["width", "height", "media_type", "name", "thumbnail", "is_nsfw"])


def new_name(image: Image, extension: str) -> str:
    """A name for a file of `image` that nobody can guess, whatever they know of it."""
    folder = f"{image.organization.public_id}/{image.created_at:%Y/%m/%d}/{image.public_id}"
    return f"{folder}-{secrets.token_hex(12)}.{extension}"


def is_flagged(prompt: str) -> bool:
    """What our own moderation endpoint says of a prompt; False where no key for it is configured, or it is away."""
    if not settings.GALLERY_MODERATION_KEY or not prompt:
        return False
    try:
        answer = httpx.post(
            f"{settings.SITE_URL}/v1/moderations",
            headers={"authorization": f"Bearer {settings.GALLERY_MODERATION_KEY}"},
            json={"input": prompt},
            timeout=10,
        )
        answer.raise_for_status()
        return bool(answer.json()["results"][0]["flagged"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        log.warning("prompt_not_moderated", error=type(error).__name__)
        return False


def decode(data: bytes) -> Picture.Image | None:
    """The picture, if it is one of the formats that we show and not a bomb."""
    try:
        picture = Picture.open(io.BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > MAX_PIXELS:
            return None
        picture.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Picture.DecompressionBombError, EOFError):
        return None
    return picture


def read(image: Image, *, thumbnail: bool = False) -> bytes | None:
    """The bytes, from the storage or the spool; None if neither has them."""
    name = image.thumbnail if thumbnail else image.name
    if name:
        with default_storage.open(name) as file:
            data: bytes = file.read()
            return data
    spooled = SpooledImage.objects.filter(image=image).only("data").first()
    return bytes(spooled.data) if spooled else None


def remove(images: list[Image], *, by: User | None, origin: audit.Origin | None = None) -> int:
    """Delete images with every file of theirs; files whose storage is away are deleted later."""
    with transaction.atomic():
        rows = Image.objects.select_for_update().filter(pk__in=[image.pk for image in images])
        names = [name for row in rows.values_list("name", "thumbnail") for name in row if name]
        Orphan.objects.bulk_create([Orphan(name=name) for name in names])
        for organization in {image.organization for image in images}:
            count = sum(image.organization_id == organization.pk for image in images)
            audit.record(
                action="image.delete", target=organization, organization=organization, by=by, origin=origin, count=count
            )
        count, _ = Image.objects.filter(pk__in=[image.pk for image in images]).delete()
    transaction.on_commit(sweep)
    return len(images) if count else 0


def sweep() -> int:
    """Delete files that belong to nothing; how many. What fails is tried again by the next sweep."""
    gone = 0
    for orphan in Orphan.objects.order_by("pk")[:BATCH]:
        try:
            default_storage.delete(orphan.name)
        except Exception as error:  # whatever a storage's driver raises
            log.warning("file_not_deleted", error=type(error).__name__)
            return gone
        orphan.delete()
        gone += 1
    return gone


def expire() -> int:
    """Delete images that are older than their organization keeps them; how many."""
    gone = 0
    for kept in GallerySettings.objects.exclude(retention_days=None).select_related("organization"):
        assert kept.retention_days is not None  # noqa: S101 - excluded
        before = timezone.now() - timedelta(days=kept.retention_days)
        while old := list(Image.objects.filter(organization=kept.organization, created_at__lt=before)[:BATCH]):
            gone += remove(old, by=None)
    return gone


def set_settings(
    *,
    organization: Organization,
    is_kept: bool,
    visibility: str,
    retention_days: int | None,
    by: User | None,
    origin: audit.Origin | None = None,
) -> None:
    """What the organization wants of its images; every worker hears of it at once."""
    values = {"is_kept": is_kept, "visibility": visibility, "retention_days": retention_days}
    with transaction.atomic():
        GallerySettings.objects.update_or_create(organization=organization, defaults=values)
        # The organization's own notification: workers read its keys again, and these settings with them.
        Organization.objects.filter(pk=organization.pk).update(slug=F("slug"))
        audit.record(
            action="gallery.set", target=organization, organization=organization, by=by, origin=origin, **values
        )
