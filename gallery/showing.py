"""Who sees an image. Where fewer may than before, its addresses end, and its files in a public bucket move.

Nothing can be called back from a cache; but what it has is of an address that is told no more and is gone here, so that
it ends with the cache's own time.
"""

import structlog
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import F, QuerySet

from accounts import audit
from accounts.models import User
from gallery import keeping
from gallery.models import Image, Orphan, Visibility

log = structlog.get_logger(__name__)

BATCH = 50
MAX_FAILURES = 3
_WIDER = {
    Visibility.PRIVATE: (Visibility.UNLISTED, Visibility.PUBLIC),
    Visibility.UNLISTED: (Visibility.PUBLIC,),
    Visibility.PUBLIC: (),
}


def set_visibility(
    images: list[Image], visibility: str, *, by: User | None, origin: audit.Origin | None = None
) -> None:
    """Who sees these images from now on: where fewer than before, their addresses end.

    What becomes public is moderated first, where that is configured.
    """
    if visibility == Visibility.PUBLIC:
        flagged = [image.pk for image in images if not image.is_nsfw and keeping.is_flagged(image.prompt)]
        Image.objects.filter(pk__in=flagged).update(is_nsfw=True)
    with transaction.atomic():
        rows = Image.objects.filter(pk__in=[image.pk for image in images])
        _withdraw(rows.filter(visibility__in=_WIDER[Visibility(visibility)]))
        rows.update(visibility=Visibility(visibility))
        for organization in {image.organization for image in images}:
            audit.record(
                action="image.set_visibility",
                target=organization,
                organization=organization,
                by=by,
                origin=origin,
                visibility=visibility,
                count=sum(image.organization_id == organization.pk for image in images),
            )


def set_hidden(images: QuerySet[Image], is_hidden: bool) -> int:
    """Staff's word on showing these images; the addresses of those that it hides end. How many there are."""
    with transaction.atomic():
        if is_hidden:
            _withdraw(images)
        return images.update(is_hidden=is_hidden)


def move_due() -> int:
    """Move files to names that nobody knows; how many images. What fails is tried again by the next call."""
    moved, failed = 0, list[int]()
    while moved < BATCH and len(failed) < MAX_FAILURES:
        with transaction.atomic():
            image = (
                Image.objects.select_for_update(skip_locked=True, of=("self",))
                .select_related("organization")
                .filter(is_moving=True)
                .exclude(pk__in=failed)
                .first()
            )
            if image is None:
                break
            try:
                _move(image)
            except Exception as error:  # whatever a storage's driver raises
                log.warning("image_not_moved", image=str(image.public_id), error=type(error).__name__)
                failed.append(image.pk)
                continue
            moved += 1
    if moved:
        keeping.sweep()
    return moved


def _withdraw(images: QuerySet[Image]) -> None:
    """Give the open ones of `images` other addresses from now on; those that lay open in the bucket move soon after."""
    open_ones = images.exclude(visibility=Visibility.PRIVATE).filter(is_hidden=False)
    if settings.R2_PUBLIC_URL:
        open_ones.filter(visibility=Visibility.PUBLIC).exclude(name="").update(is_moving=True)
    open_ones.update(version=F("version") + 1)


def _move(image: Image) -> None:
    """Copy the files; the old ones are orphans from the commit on. A file that is not there needs no hiding."""
    old = [name for name in (image.name, image.thumbnail) if name]
    image.name, image.thumbnail = _copied(image, image.name), _copied(image, image.thumbnail)
    image.is_moving = False
    image.save(update_fields=["name", "thumbnail", "is_moving"])
    Orphan.objects.bulk_create([Orphan(name=name) for name in old if name not in {image.name, image.thumbnail}])


def _copied(image: Image, name: str) -> str:
    if not name:
        return ""
    try:
        with default_storage.open(name) as file:
            data = file.read()
    except FileNotFoundError:
        return name
    return default_storage.save(keeping.new_name(image, name.rpartition(".")[2]), ContentFile(data))
