"""An organization that is deleted takes its images along."""

from typing import Any

from django.dispatch import receiver

from accounts.closing import organization_deleted
from accounts.models import Organization
from gallery import keeping
from gallery.models import GallerySettings

BATCH = 500


@receiver(organization_deleted)
def forget_images(*, organization: Organization, **_: Any) -> None:
    while images := list(organization.images.select_related("organization")[:BATCH]):
        keeping.remove(images, by=None)
    GallerySettings.objects.filter(organization=organization).delete()
