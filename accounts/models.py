"""People, organizations and their API keys."""

import uuid
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models.functions import Cast
from django.utils import timezone


class UserManager(BaseUserManager["User"]):
    """Makes users that log in by email."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save()
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """A person. Logs in by email; belongs to organizations through memberships."""

    public_id = models.UUIDField(default=uuid.uuid4, db_default=RandomUUID(), unique=True, editable=False)
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    joined_at = models.DateTimeField(default=timezone.now)

    objects = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: list[str] = []

    def __str__(self) -> str:
        return self.email

    def get_short_name(self) -> str:
        return self.name or self.email.split("@")[0]


class Role(models.TextChoices):
    """What a member may do; the table is in `accounts/access.py`."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    BILLING = "billing"
    VIEWER = "viewer"


class Organization(models.Model):
    """The tenant: whatever costs or is secret belongs to exactly one."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        FROZEN = "frozen"
        CLOSING = "closing"  # to be deleted at `deletes_at`, unless it is restored before
        DELETED = "deleted"  # only its books are left

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=60, unique=True)
    is_personal = models.BooleanField(default=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    created_at = models.DateTimeField(default=timezone.now)
    deletes_at = models.DateTimeField(null=True, blank=True)
    timezone = models.CharField(max_length=50, default="UTC")
    default_rpm = models.PositiveIntegerField(null=True, blank=True)  # of keys that name none; null = DEFAULT_RPM
    default_tpm = models.PositiveIntegerField(null=True, blank=True)  # of keys that name none; null = no limit
    max_rpm = models.PositiveIntegerField(null=True, blank=True)  # of all its keys together; null = no limit
    max_tpm = models.PositiveIntegerField(null=True, blank=True)
    max_concurrent = models.PositiveIntegerField(null=True, blank=True)  # requests that run at once; null = no limit
    fallback_model = models.CharField(max_length=200, blank=True, default="")  # when a model cannot be reached
    members = models.ManyToManyField(User, through="Membership", related_name="organizations")

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A user in an organization, with a role."""

    public_id = models.UUIDField(db_default=RandomUUID(), unique=True, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "user"], name="membership_once"),
            models.UniqueConstraint(
                fields=["organization"], condition=models.Q(role="owner"), name="membership_one_owner"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.organization_id} as {self.role}"


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    """Which keys."""

    def live(self) -> "ApiKeyQuerySet":
        """Keys that open the door now: neither revoked nor expired."""
        now = timezone.now()
        return self.filter(
            models.Q(revoked_at=None) | models.Q(revoked_at__gt=now),
            models.Q(expires_at=None) | models.Q(expires_at__gt=now),
        )


class ApiSessionQuerySet(models.QuerySet["ApiSession"]):
    """Which sessions."""

    def live(self) -> "ApiSessionQuerySet":
        """Sessions whose tokens work now, unless their person may no longer sign in."""
        return self.filter(ended_at=None, expires_at__gt=timezone.now(), user__is_active=True)


class ApiKey(models.Model):
    """An API key. The key itself is shown once; we keep its public id, last four characters and keyed digest.

    `revoked_at` may lie in the future: that is the grace period of a rotated key.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=19, unique=True, editable=False)  # "sk-tup-" + 12 characters
    last_four = models.CharField(max_length=4, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)  # hex HMAC-SHA256 with the pepper
    scopes = models.JSONField(default=list, blank=True)  # [] = all
    allowed_models = models.JSONField(default=list, blank=True)  # [] = all
    allowed_endpoints = models.JSONField(default=list, blank=True)  # [] = all
    allowed_ips = models.JSONField(default=list, blank=True)  # CIDR networks; [] = all
    rpm = models.PositiveIntegerField(null=True, blank=True)  # requests per minute; null = the organization's default
    tpm = models.PositiveIntegerField(null=True, blank=True)  # tokens per minute; null = the organization's default
    max_concurrent = models.PositiveIntegerField(null=True, blank=True)  # requests that run at once; null = no limit
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    rotated_from = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="rotations")
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["organization", "-created_at"], name="apikey_by_organization")]

    def __str__(self) -> str:
        return f"{self.name} ({self.masked})"

    @property
    def masked(self) -> str:
        """The key as people may see it: `sk-tup-a1b2…wxyz`."""
        return f"{self.prefix[:11]}…{self.last_four}"

    @property
    def is_live(self) -> bool:
        now = timezone.now()
        return not (self.revoked_at and self.revoked_at <= now) and not (self.expires_at and self.expires_at <= now)


class RequestedKey(models.Model):
    """Who asked for a key on the self-service page, and what for. The name is what they said: nobody checked it."""

    key = models.OneToOneField(ApiKey, models.CASCADE, primary_key=True, related_name="requested")
    username = models.CharField(max_length=80, db_index=True)
    note = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.username


class ApiSession(models.Model):
    """A person signed in through the JSON API: one chain of refresh tokens, of which the newest works."""

    class Way(models.TextChoices):
        PASSWORD = "password"  # noqa: S105 - how, not what
        DEVICE = "device"

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="api_sessions")
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    way = models.CharField(max_length=10, choices=Way)
    label = models.CharField(max_length=80, blank=True)  # what the program calls itself
    refresh_digest = models.CharField(max_length=64, editable=False)  # of the newest refresh token's id
    ip = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    refreshed_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = ApiSessionQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["user", "-refreshed_at"], name="api_session_by_user")]

    def __str__(self) -> str:
        return f"{self.way} {self.public_id}"


class DeviceLogin(models.Model):
    """A device that waits for a person to approve it (RFC 8628). Both of its codes are kept as keyed digests."""

    class Status(models.TextChoices):
        PENDING = "pending"
        APPROVED = "approved"
        DENIED = "denied"
        COMPLETE = "complete"  # the tokens have been given

    device_digest = models.CharField(max_length=64, unique=True, editable=False)
    user_digest = models.CharField(max_length=64, unique=True, editable=False)
    client_id = models.CharField(max_length=80, blank=True)
    client_name = models.CharField(max_length=80, blank=True)
    ip = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    user = models.ForeignKey(User, models.CASCADE, null=True, blank=True, related_name="+")
    organization = models.ForeignKey(Organization, models.CASCADE, null=True, blank=True, related_name="+")
    interval_s = models.PositiveSmallIntegerField(default=5)
    polled_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(status__in=["approved", "complete"])
                | models.Q(user__isnull=False, organization__isnull=False),
                name="device_login_approved_by_somebody",
            )
        ]

    def __str__(self) -> str:
        return f"{self.client_name or self.client_id} {self.status}"

    @property
    def is_open(self) -> bool:
        """Whether somebody may still decide."""
        return self.status == self.Status.PENDING and self.expires_at > timezone.now()


class AuditEntry(models.Model):
    """One change: who did what to which object, from where. Append-only by trigger."""

    organization = models.ForeignKey(Organization, models.PROTECT, null=True, blank=True, related_name="audit_entries")
    actor = models.ForeignKey(User, models.PROTECT, null=True, blank=True, related_name="+")
    action = models.CharField(max_length=60)
    target_type = models.CharField(max_length=60)
    target_id = models.CharField(max_length=64)
    data = models.JSONField(default=dict, blank=True)
    ip = models.GenericIPAddressField(null=True, blank=True)
    user_agent = models.CharField(max_length=300, blank=True)
    via = models.CharField(max_length=80, blank=True, default="", db_default="")  # a key or the operator's token
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["organization", "-id"], name="audit_by_organization")]

    def __str__(self) -> str:
        return f"{self.action} {self.target_type} {self.target_id}"


class Event(models.Model):
    """Something that happened to an organization, for its webhooks and its event feed.

    Ids are given before commit, so a reader who went by ids alone could pass over a row that commits later. The feed
    therefore goes by (`transaction`, `id`), and only as far as every transaction has ended.
    """

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="events")
    kind = models.CharField(max_length=60)
    data = models.JSONField(default=dict)
    transaction = models.BigIntegerField(
        db_default=Cast(
            models.Func(function="pg_current_xact_id", template="%(function)s()::text"), models.BigIntegerField()
        ),
        editable=False,
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [
            models.Index(fields=["organization", "transaction", "id"], name="event_feed"),
            models.Index(fields=["transaction", "id"], name="event_order"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.public_id}"


# Django finds an app's models in its `models` module.
from accounts.team_models import Invitation, OrganizationExport  # noqa: E402, F401
from accounts.webhook_models import Attempt, Delivery, DispatchCursor, Webhook  # noqa: E402, F401
