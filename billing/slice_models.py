"""Sums of usage for reports, coarser than `UsageRollup`."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.models import ApiKey, Organization


class UsageSlice(models.Model):
    """The settled usage of one organization in one hour or day (UTC), by the dimensions that `slice` names.

    The other dimensions are empty. `latency` counts completed requests by the buckets of `billing.slices.BOUNDS`; it is
    null by end user. A trigger on the usage records keeps it, reconciliation proves it.
    """

    class Slice(models.TextChoices):
        ALL = "all", "by hour"
        KEY = "key", "by hour and key"
        MODEL = "model", "by hour and model"
        ENDPOINT = "endpoint", "by hour and endpoint"
        CROSS = "cross", "by hour, key, model and endpoint"
        KEY_DAY = "key_day", "by day and key"
        END_USER = "end_user", "by day and end user"

    organization = models.ForeignKey(
        Organization, models.DO_NOTHING, db_constraint=False, db_index=False, related_name="usage_slices"
    )
    slice = models.CharField(max_length=10, choices=Slice)
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
                fields=["organization", "slice", "starts_at", "key", "model", "endpoint", "end_user"],
                name="usage_slice_once",
                nulls_distinct=False,
            ),
        ]
        indexes = [
            models.Index(fields=["starts_at"], condition=models.Q(slice="key_day"), name="usage_slice_key_days"),
        ]

    def __str__(self) -> str:
        return f"{self.slice} {self.starts_at:%Y-%m-%d %H} {self.organization_id}"
