"""Requests and answers in words, for organizations that asked for it."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now

from accounts.models import Organization

MAX_DAYS = 365


class TranscriptSettings(models.Model):
    """What an organization wants kept of its requests; without a row, nothing is. Every worker hears of a change."""

    organization = models.OneToOneField(Organization, models.CASCADE, related_name="transcript_settings")
    is_on = models.BooleanField(default=False)
    retention_days = models.PositiveSmallIntegerField(
        default=30, validators=[MinValueValidator(1), MaxValueValidator(MAX_DAYS)]
    )
    redacts_personal = models.BooleanField(default=True)

    class Meta:
        verbose_name_plural = "transcript settings"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(retention_days__gte=1, retention_days__lte=MAX_DAYS),
                name="transcript_retention_within_a_year",
            ),
        ]

    def __str__(self) -> str:
        return str(self.organization_id)


class Transcript(models.Model):
    """The words of one request, encrypted: `{"request": …, "answer": …}`. Deleted when it expires."""

    request_id = models.UUIDField(primary_key=True)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="transcripts")
    words_encrypted = models.TextField(editable=False)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return str(self.request_id)
