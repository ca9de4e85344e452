"""Where an organization's events are sent, and what became of each."""

import uuid

from django.db import models
from django.utils import timezone

from accounts.models import Event, Organization, User


class Webhook(models.Model):
    """A server of an organization that hears of its events. Secrets are encrypted; a rotated one works for a while."""

    class Off(models.TextChoices):
        ON = ""
        BY_MEMBER = "by_member"
        FAILING = "failing", "Failing for too long"
        GONE = "gone", "The server answered 410 Gone"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="webhooks")
    url = models.URLField(max_length=500)
    description = models.CharField(max_length=120, blank=True)
    kinds = models.JSONField(default=list, blank=True)  # [] = all
    is_enabled = models.BooleanField(default=True)
    off_reason = models.CharField(max_length=10, choices=Off, blank=True, default="")
    failing_since = models.DateTimeField(null=True, blank=True)  # the first failure since the last success
    secret_encrypted = models.TextField(editable=False)
    old_secret_encrypted = models.TextField(blank=True, editable=False)
    old_secret_until = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["organization", "created_at"], name="webhook_by_organization")]

    def __str__(self) -> str:
        return self.url

    def wants(self, kind: str) -> bool:
        return not self.kinds or kind in self.kinds


class Delivery(models.Model):
    """One event to one webhook, sent until it arrives or `attempts` runs out. Replaying begins again."""

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        DEAD = "dead"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries", db_index=False)
    event = models.ForeignKey(Event, models.CASCADE, related_name="deliveries")
    state = models.CharField(max_length=9, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0)  # since it began or was replayed
    next_at = models.DateTimeField(default=timezone.now)
    last_status = models.PositiveSmallIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [models.UniqueConstraint(fields=["webhook", "event"], name="delivery_once")]
        indexes = [
            models.Index(fields=["webhook", "-id"], name="delivery_by_webhook"),
            models.Index(fields=["next_at"], condition=models.Q(state="pending"), name="delivery_due"),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.webhook_id}: {self.state}"


class Attempt(models.Model):
    """One request of a delivery and what was answered: at most its first kilobyte."""

    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="tries")
    at = models.DateTimeField(default=timezone.now)
    status = models.PositiveSmallIntegerField(null=True, blank=True)  # null: nobody answered
    error = models.CharField(max_length=200, blank=True)
    response = models.TextField(blank=True)
    latency_ms = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.delivery_id} at {self.at}: {self.status or self.error}"


class DispatchCursor(models.Model):
    """How far events have been given to webhooks: the one row of this table, locked while somebody does it."""

    transaction = models.BigIntegerField(default=0)
    event = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.transaction}-{self.event}"
