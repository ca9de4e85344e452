"""Images that were made through the gateway, and what still has to be done with them."""

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector
from django.db import models
from django.utils import timezone

from accounts.models import ApiKey, Organization, User


class Visibility(models.TextChoices):
    """Who sees an image: its organization; whoever knows its address; everybody."""

    PRIVATE = "private"
    UNLISTED = "unlisted"
    PUBLIC = "public"


class ImageQuerySet(models.QuerySet["Image"]):
    """Which images."""

    def public(self) -> "ImageQuerySet":
        """What everybody sees in the gallery."""
        return self.filter(visibility=Visibility.PUBLIC, is_hidden=False)


class Image(models.Model):
    """One image. Its bytes lie in the storage under `name`, or still in `SpooledImage`.

    `is_hidden` is staff's word against showing it; its organization still has it. `version` is part of its addresses
    and rises when fewer may see it; while it `is_moving`, its files in a public bucket await names that nobody knows.
    """

    public_id = models.UUIDField(unique=True, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="images", db_index=False)
    key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, blank=True, related_name="images")
    request_id = models.UUIDField()
    end_user = models.CharField(max_length=256, blank=True)
    prompt = models.TextField(blank=True)
    model = models.CharField(max_length=200)
    size = models.CharField(max_length=20, blank=True)
    quality = models.CharField(max_length=20, blank=True)
    seed = models.BigIntegerField(null=True, blank=True)
    cost_nanos = models.BigIntegerField(default=0)
    media_type = models.CharField(max_length=40)
    byte_size = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    visibility = models.CharField(max_length=10, choices=Visibility, default=Visibility.PRIVATE)
    is_nsfw = models.BooleanField(default=False)
    is_hidden = models.BooleanField(default=False)
    name = models.CharField(max_length=200, blank=True, editable=False)
    thumbnail = models.CharField(max_length=200, blank=True, editable=False)
    version = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    is_moving = models.BooleanField(default=False, db_default=False, editable=False)
    created_at = models.DateTimeField(default=timezone.now)

    objects = ImageQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        indexes = [
            models.Index(fields=["organization", "-id"], name="image_by_organization"),
            models.Index(fields=["-id"], condition=models.Q(visibility="public", is_hidden=False), name="image_public"),
            models.Index(
                fields=["model", "-id"], condition=models.Q(visibility="public", is_hidden=False), name="image_by_model"
            ),
            models.Index(fields=["-id"], condition=models.Q(is_moving=True), name="image_moving"),
            GinIndex(SearchVector("prompt", config="simple"), name="image_prompt"),
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.public_id}"


class SpooledImage(models.Model):
    """The bytes of an image on their way to the storage: here first, so that a storage that is away loses nothing."""

    image = models.OneToOneField(Image, models.CASCADE, related_name="spooled")
    data = models.BinaryField()
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return str(self.image_id)


class Orphan(models.Model):
    """A file in the storage that belongs to nothing any more and still has to be deleted."""

    name = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name


class GallerySettings(models.Model):
    """What an organization wants of its images. `retention_days` empty: kept for good."""

    organization = models.OneToOneField(Organization, models.CASCADE, related_name="gallery_settings")
    is_kept = models.BooleanField(default=True)
    visibility = models.CharField(max_length=10, choices=Visibility, default=Visibility.PRIVATE)
    retention_days = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "gallery settings"

    def __str__(self) -> str:
        return str(self.organization_id)


class Report(models.Model):
    """Somebody's word that an image should not be shown."""

    image = models.ForeignKey(Image, models.CASCADE, related_name="reports")
    reason = models.CharField(max_length=500)
    created_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        indexes = [models.Index(fields=["created_at"], condition=models.Q(resolved_at=None), name="report_open")]

    def __str__(self) -> str:
        return f"{self.image_id}: {self.reason[:60]}"
