"""Services, what was seen of them, incidents, maintenance and who wants to hear of it."""

import secrets
import uuid
from datetime import timedelta

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone

from status.states import CHOICES, State


def new_token() -> str:
    return secrets.token_urlsafe(32)


class Service(models.Model):
    """What customers rely on. Requests to `provider`, or to models that begin with `model_prefix`, tell of it.

    `state` is what the last look found; `forced_state` is what staff say, and wins.
    """

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=80)
    description = models.CharField(max_length=200, blank=True)
    group = models.CharField(max_length=60, blank=True)
    position = models.PositiveIntegerField(default=100)
    is_public = models.BooleanField(default=True)
    provider = models.CharField(max_length=60, blank=True)
    model_prefix = models.CharField(max_length=60, blank=True)
    counts_our_failures = models.BooleanField(default=False, help_text="Failures of our own count against it.")
    state = models.PositiveSmallIntegerField(choices=CHOICES, default=State.OPERATIONAL, editable=False)
    reason = models.CharField(max_length=300, blank=True, editable=False)
    fault = models.CharField(max_length=10, blank=True, editable=False)
    forced_state = models.PositiveSmallIntegerField(choices=CHOICES, null=True, blank=True)
    suspected_state = models.PositiveSmallIntegerField(choices=CHOICES, default=State.OPERATIONAL, editable=False)
    observed_at = models.DateTimeField(null=True, editable=False)
    calm_since = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ("position", "name")

    def __str__(self) -> str:
        return self.name

    @property
    def current(self) -> State:
        """As everybody sees it: what was seen last, or degraded performance, while a recovery is being watched."""
        if self.forced_state is not None:
            return State(self.forced_state)
        seen = self.state if self.calm_since is None else max(self.suspected_state, State.DEGRADED_PERFORMANCE)
        return State(min(self.state, seen))


class Check(models.Model):
    """A probe that Celery runs every `interval_s`: an address, a completion, or a part of this installation."""

    class Kind(models.TextChoices):
        HTTP = "http", "HTTP: answers below 500"
        WEBSOCKET = "websocket", "WebSocket: answers the handshake"
        TCP = "tcp", "TCP: host:port accepts"
        COMPLETION = "completion", "A completion of one token (target: model)"
        DATABASE = "database", "PostgreSQL answers"
        CACHE = "cache", "Redis answers"
        STORAGE = "storage", "The file storage answers"
        QUEUE = "queue", "Celery is not late"

    service = models.ForeignKey(Service, models.CASCADE, related_name="checks")
    kind = models.CharField(max_length=12, choices=Kind)
    target = models.CharField(max_length=300, blank=True)
    interval_s = models.PositiveIntegerField(default=60, validators=[MinValueValidator(10)])
    timeout_s = models.PositiveIntegerField(default=10, validators=[MinValueValidator(1)])
    slow_ms = models.PositiveIntegerField(default=5_000)
    is_upstream = models.BooleanField(default=False, help_text="A failure is a provider's fault, not ours.")
    is_enabled = models.BooleanField(default=True)
    next_at = models.DateTimeField(default=timezone.now, editable=False)
    checked_at = models.DateTimeField(null=True, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False)
    latency_ms = models.PositiveIntegerField(null=True, editable=False)
    error = models.CharField(max_length=200, blank=True, editable=False)

    class Meta:
        indexes = [models.Index(fields=["next_at"], condition=models.Q(is_enabled=True), name="check_due")]

    def __str__(self) -> str:
        return f"{self.service}: {self.get_kind_display()} {self.target}".strip()


class TrafficSample(models.Model):
    """What one worker saw of one deployment (or of itself: provider empty) in some seconds. Kept for a day."""

    at = models.DateTimeField(default=timezone.now)
    provider = models.CharField(max_length=60, blank=True)
    model = models.CharField(max_length=200, blank=True)
    requests = models.PositiveIntegerField()
    upstream_failures = models.PositiveIntegerField(default=0)
    our_failures = models.PositiveIntegerField(default=0)
    latency_ms_sum = models.PositiveBigIntegerField(default=0)

    class Meta:
        indexes = [models.Index(fields=["at"], name="traffic_at")]

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S} {self.provider} {self.model}"


class ServiceDay(models.Model):
    """Seconds that a service was seen in each state on a day (UTC). What nobody saw is in none of them."""

    service = models.ForeignKey(Service, models.CASCADE, related_name="days")
    day = models.DateField()
    operational_s = models.PositiveIntegerField(default=0)
    degraded_s = models.PositiveIntegerField(default=0)
    partial_s = models.PositiveIntegerField(default=0)
    major_s = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["service", "day"], name="service_day_once")]

    def __str__(self) -> str:
        return f"{self.service_id} {self.day}"


class Incident(models.Model):
    """Something that went wrong with services. Its updates tell the story, newest state last."""

    class Status(models.TextChoices):
        INVESTIGATING = "investigating"
        IDENTIFIED = "identified"
        MONITORING = "monitoring"
        RESOLVED = "resolved"

    class Severity(models.TextChoices):
        CRITICAL = "critical"
        HIGH = "high"
        MEDIUM = "medium"
        LOW = "low"

    public_id = models.CharField(max_length=43, unique=True, default=new_token, editable=False)
    title = models.CharField(max_length=160)
    status = models.CharField(max_length=14, choices=Status, default=Status.INVESTIGATING)
    severity = models.CharField(max_length=10, choices=Severity, default=Severity.MEDIUM)
    fault = models.CharField(max_length=10, blank=True, choices=[("upstream", "a provider's"), ("ours", "ours")])
    services = models.ManyToManyField(Service, related_name="incidents", blank=True)
    started_at = models.DateTimeField(default=timezone.now)
    resolved_at = models.DateTimeField(null=True, blank=True)
    is_automatic = models.BooleanField(default=False, help_text="Opened by the watch, which also updates it.")
    is_taken_over = models.BooleanField(default=False, help_text="Staff write it; the watch leaves it alone.")
    postmortem = models.TextField(blank=True)
    merged_into = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="merged")

    class Meta:
        ordering = ("-started_at",)
        indexes = [models.Index(fields=["-started_at"], name="incident_newest")]

    def __str__(self) -> str:
        return self.title


class IncidentUpdate(models.Model):
    """One entry of an incident's story."""

    incident = models.ForeignKey(Incident, models.CASCADE, related_name="updates")
    status = models.CharField(max_length=14, choices=Incident.Status)
    body = models.TextField()
    at = models.DateTimeField(default=timezone.now)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ("at", "pk")

    def __str__(self) -> str:
        return f"{self.status}: {self.body[:60]}"


class Maintenance(models.Model):
    """Work that is announced. While it lasts its services open no incidents by themselves."""

    title = models.CharField(max_length=160)
    body = models.TextField(blank=True)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    services = models.ManyToManyField(Service, related_name="maintenances", blank=True)
    announced_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("starts_at",)
        verbose_name_plural = "maintenance"
        constraints = [
            models.CheckConstraint(condition=models.Q(ends_at__gt=models.F("starts_at")), name="maintenance_ends_after")
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_running(self) -> bool:
        return self.starts_at <= timezone.now() < self.ends_at


class Subscriber(models.Model):
    """Somebody who wants to hear of incidents by mail, or (`url`) at a server; only once the address is confirmed."""

    email = models.EmailField()
    url = models.URLField(max_length=500, blank=True, default="")
    secret_encrypted = models.TextField(blank=True, default="", editable=False)
    token = models.CharField(max_length=43, unique=True, default=new_token, editable=False)
    asked_at = models.DateTimeField(default=timezone.now)
    confirmed_at = models.DateTimeField(null=True, blank=True)

    CONFIRM_WITHIN = timedelta(days=2)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["email", "url"], name="subscriber_once")]

    def __str__(self) -> str:
        return self.email


class Notice(models.Model):
    """One message to send to one subscriber: an outbox, so that no update is sent twice or lost to a restart."""

    subscriber = models.ForeignKey(Subscriber, models.CASCADE, related_name="notices")
    update = models.ForeignKey(IncidentUpdate, models.CASCADE, null=True, blank=True, related_name="notices")
    maintenance = models.ForeignKey(Maintenance, models.CASCADE, null=True, blank=True, related_name="notices")
    public_id = models.UUIDField(default=uuid.uuid4, editable=False)
    sent_at = models.DateTimeField(null=True, blank=True)
    next_at = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["subscriber", "update"], name="notice_once_per_update"),
            models.UniqueConstraint(fields=["subscriber", "maintenance"], name="notice_once_per_maintenance"),
        ]
        indexes = [models.Index(fields=["created_at"], condition=models.Q(sent_at=None), name="notice_unsent")]

    def __str__(self) -> str:
        return f"{self.subscriber_id} {self.update_id or self.maintenance_id}"
