"""Reseller organizations and the corrections of wrong prices."""

import uuid

from django.db import models
from django.db.models.functions import Now

from accounts.models import Organization, User
from billing.models import Transfer
from billing.price_models import Price


class Resale(models.Model):
    """`child` is a customer of `parent`. With an allowance its credit is filled up by it once a month (UTC).

    `allowed_month` is the last month that was filled up, `earned_through` the last day whose markup the parent has.
    """

    parent = models.ForeignKey(Organization, models.PROTECT, related_name="resales")
    child = models.OneToOneField(Organization, models.PROTECT, related_name="resale")
    allowance_nanos = models.BigIntegerField(null=True, blank=True)
    allowed_month = models.DateField(null=True, blank=True)
    earned_through = models.DateField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(condition=~models.Q(parent=models.F("child")), name="resale_of_another"),
            models.CheckConstraint(
                condition=models.Q(allowance_nanos=None) | models.Q(allowance_nanos__gt=0),
                name="resale_allowance_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.parent} to {self.child}"


class Rerating(models.Model):
    """Requests that were charged by a wrong price, reckoned by the right one; then given back or asked for.

    `follows_lists`: reckoned with the prices of lists that were made from the wrong one.
    """

    class Status(models.TextChoices):
        RECKONING = "reckoning", "Reckoning"
        READY = "ready", "Ready to apply"
        APPLIED = "applied", "Applied"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    wrong = models.ForeignKey(Price, models.PROTECT, related_name="+")
    right = models.ForeignKey(Price, models.PROTECT, related_name="+")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    asks_for_more = models.BooleanField(
        default=False, help_text="Also charge what was too little. Without it only what was too much is given back."
    )
    reason = models.CharField(max_length=200)
    status = models.CharField(max_length=10, choices=Status, default=Status.RECKONING, editable=False)
    requests = models.PositiveBigIntegerField(default=0, editable=False)
    skipped = models.PositiveBigIntegerField(default=0, editable=False)
    follows_lists = models.BooleanField(default=False, db_default=False, editable=False)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+", editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    applied_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.CheckConstraint(condition=~models.Q(wrong=models.F("right")), name="rerating_by_another_price"),
            models.CheckConstraint(condition=models.Q(starts_at__lt=models.F("ends_at")), name="rerating_span"),
        ]

    def __str__(self) -> str:
        return f"{self.wrong} by {self.right.effective_at:%Y-%m-%d %H:%M}"


class ReratingLine(models.Model):
    """What a correction means to one organization, in nano-dollars."""

    rerating = models.ForeignKey(Rerating, models.CASCADE, related_name="lines")
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    requests = models.PositiveBigIntegerField()
    charged = models.BigIntegerField()
    correct = models.BigIntegerField()
    transfer = models.OneToOneField(Transfer, models.PROTECT, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ["organization_id"]
        constraints = [
            models.UniqueConstraint(fields=["rerating", "organization"], name="rerating_line_once"),
        ]

    def __str__(self) -> str:
        return f"{self.organization}: {self.charged} to {self.correct}"

    @property
    def difference(self) -> int:
        """What the organization gets back; negative: what it owes."""
        return self.charged - self.correct


class ProviderReport(models.Model):
    """What a provider says that a day (UTC) cost, beside what our usage records say, in nano-dollars."""

    provider = models.CharField(max_length=60)
    day = models.DateField()
    reported = models.BigIntegerField()
    recorded = models.BigIntegerField()
    is_within_tolerance = models.BooleanField()
    fetched_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-day", "provider"]
        constraints = [models.UniqueConstraint(fields=["provider", "day"], name="provider_report_once")]

    def __str__(self) -> str:
        return f"{self.provider} {self.day}"
