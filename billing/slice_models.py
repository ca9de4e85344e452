"""Sums of usage for reports, coarser than `UsageRollup`."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.models import ApiKey, Organization


class UsageSlice(models.Model):
    """The settled usage of one organization in one hour or day (UTC), by the dimensions that `slice` names.

    The other dimensions are empty. `latency` counts completed requests by the buckets of `billing.slices.BOUNDS`. By
    end user there are days alone, without it. A trigger on the usage records keeps it, reconciliation proves it.
    """

    class Slice(models.TextChoices):
        ALL = "all", "all"
        KEY = "key", "by key"
        MODEL = "model", "by model"
        ENDPOINT = "endpoint", "by endpoint"
        CROSS = "cross", "by key, model and endpoint"
        END_USER = "end_user", "by end user"

    class Grain(models.TextChoices):
        HOUR = "hour"
        DAY = "day"

    organization = models.ForeignKey(
        Organization, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="usage_slices"
    )
    slice = models.CharField(max_length=10, choices=Slice)
    grain = models.CharField(max_length=4, choices=Grain)
    starts_at = models.DateTimeField()
    key = models.ForeignKey(
        ApiKey, models.DO_NOTHING, null=True, db_constraint=False, db_index=False, related_name="usage_slices"
    )
    model = models.TextField(db_default="")
    endpoint = models.TextField(db_default="")
    end_user = models.TextField(db_default="")
    requests = models.BigIntegerField(db_default=0)
    errors = models.BigIntegerField(db_default=0)
    input_tokens = models.BigIntegerField(db_default=0)
    cached_tokens = models.BigIntegerField(db_default=0)
    output_tokens = models.BigIntegerField(db_default=0)
    reasoning_tokens = models.BigIntegerField(db_default=0)
    cost_nanos = models.BigIntegerField(db_default=0)
    upstream_cost_nanos = models.BigIntegerField(db_default=0)
    latency = ArrayField(models.IntegerField(), null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "slice", "grain", "starts_at", "key", "model", "endpoint", "end_user"],
                name="usage_slice_once",
                nulls_distinct=False,
            ),
        ]
        indexes = [
            models.Index(
                fields=["starts_at"], condition=models.Q(slice="key", grain="day"), name="usage_slice_key_days"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.slice} {self.grain} {self.starts_at:%Y-%m-%d %H} {self.organization_id}"
