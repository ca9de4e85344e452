"""Providers, models and the deployments of models at providers. Conversations are in `playground_models`."""

from django.conf import settings
from django.core.validators import MinValueValidator, URLValidator
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import ApiKey, Organization, User

# For the first request that a page suggests: cheap, quick, and known to every client.
FIRST_REQUEST_MODELS = ("gpt-4o-mini", "gpt-fast", "gpt-6-luna")


class Provider(models.Model):
    """Whom we call. The API key is kept encrypted (`accounts.secrets`); `providers.set_api_key` writes it."""

    class Kind(models.TextChoices):
        OPENAI = "openai", "OpenAI"
        AZURE = "azure", "Azure OpenAI"
        CLOUDFLARE = "cloudflare", "Cloudflare Workers AI"
        OPENAI_COMPATIBLE = "openai-compatible", "OpenAI-compatible"
        SANDBOX = "sandbox", "Sandbox"

    slug = models.SlugField(max_length=60, unique=True)
    name = models.CharField(max_length=120, blank=True)
    kind = models.CharField(max_length=20, choices=Kind)
    base_url = models.CharField(
        max_length=500,
        validators=[URLValidator(schemes=["http", "https"])],
        help_text="Ends before the endpoint's path, as in https://api.openai.com/v1",
    )
    api_key_encrypted = models.TextField(blank=True, default="", editable=False)
    api_version = models.CharField(max_length=40, blank=True, default="", help_text="Azure's api-version")
    report_key_encrypted = models.TextField(blank=True, default="", editable=False)
    report_project = models.CharField(
        max_length=100, blank=True, default="", help_text="Compare the costs of this project alone, such as proj_…"
    )
    is_enabled = models.BooleanField(default=True)
    allow_private = models.BooleanField(
        default=False, help_text="Whether its host may be a private address, such as a server beside this one"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    loaded = models.JSONField(default=dict, blank=True, editable=False)

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(kind__in=["openai", "azure", "cloudflare", "openai-compatible", "sandbox"]),
                name="provider_kind_known",
            ),
            models.CheckConstraint(condition=models.Q(base_url__regex=r"^https?://"), name="provider_base_url_http"),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def has_api_key(self) -> bool:
        return bool(self.api_key_encrypted)


class ModelQuerySet(models.QuerySet["Model"]):
    """Which models."""

    def listed(self) -> "ModelQuerySet":
        """What we offer, whether or not a deployment serves it now."""
        return self.filter(is_listed=True)

    def served(self) -> "ModelQuerySet":
        """What we offer and can serve now."""
        return self.listed().filter(
            models.Exists(
                Deployment.objects.filter(model=models.OuterRef("pk"), is_enabled=True, provider__is_enabled=True)
            )
        )

    def featured_first(self) -> "ModelQuerySet":
        """By maker: those of `FEATURED_MAKERS` in that order, then the others by name."""
        whens = [models.When(owned_by=maker, then=rank) for rank, maker in enumerate(settings.FEATURED_MAKERS)]
        return self.order_by(models.Case(*whens, default=len(whens)), "owned_by", "name")

    def for_first_request(self) -> str:
        """The name of a model to try first."""
        served = set(self.served().filter(modality="text").order_by("name").values_list("name", flat=True))
        for name in FIRST_REQUEST_MODELS:
            if name in served:
                return name
        return min(served, default=FIRST_REQUEST_MODELS[0])


class Model(models.Model):
    """A model under its public name.

    `snapshots` are dated ids that mean it too; `upstream_names` what providers call it, by provider slug. `endpoints`
    are the paths that serve it; none: any. `loaded` are the values that `load_prices` gave, so that it leaves alone
    what staff changed since.
    """

    class Status(models.TextChoices):
        ACTIVE = "active"
        DEPRECATED = "deprecated"
        RETIRED = "retired"
        UNPRICED = "unpriced"
        DISPUTED = "disputed"

    name = models.CharField(max_length=200, unique=True)
    owned_by = models.CharField(max_length=120, blank=True, default="")
    modality = models.CharField(max_length=30, default="text")
    context_window = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    max_output_tokens = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    capabilities = models.JSONField(default=list, blank=True)
    endpoints = models.JSONField(default=list, blank=True)
    snapshots = models.JSONField(default=list, blank=True)
    upstream_names = models.JSONField(default=dict, blank=True)
    is_listed = models.BooleanField(default=True)
    status = models.CharField(max_length=12, choices=Status, default=Status.ACTIVE)
    deprecated_on = models.DateField(null=True, blank=True)
    successor = models.CharField(
        max_length=200,
        blank=True,
        default="",
        help_text="Serves requests for it, at its own price, once nothing else does.",
    )
    notes = models.TextField(blank=True, default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    loaded = models.JSONField(default=dict, blank=True, editable=False)

    objects = ModelQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=~models.Q(name=""), name="model_named"),
            models.CheckConstraint(
                condition=models.Q(status__in=["active", "deprecated", "retired", "unpriced", "disputed"]),
                name="model_status_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Alias(models.Model):
    """Another public name of a model."""

    name = models.CharField(max_length=200, unique=True)
    model = models.ForeignKey(Model, models.CASCADE, related_name="aliases")

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "aliases"
        constraints = [models.CheckConstraint(condition=~models.Q(name=""), name="alias_named")]

    def __str__(self) -> str:
        return f"{self.name} → {self.model_id}"


class Deployment(models.Model):
    """A model at a provider. Lower `priority` is tried first; among equals `weight` decides in proportion."""

    model = models.ForeignKey(Model, models.CASCADE, related_name="deployments")
    provider = models.ForeignKey(Provider, models.CASCADE, related_name="deployments")
    upstream_name = models.CharField(max_length=200)
    weight = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    priority = models.SmallIntegerField(default=0)
    max_concurrency = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    timeout_s = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    is_enabled = models.BooleanField(default=True)
    loaded = models.JSONField(default=dict, blank=True, editable=False)

    class Meta:
        ordering = ["priority", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["model", "provider", "upstream_name"], name="deployment_once"),
            models.CheckConstraint(condition=models.Q(weight__gte=1), name="deployment_weight_positive"),
            models.CheckConstraint(
                condition=models.Q(timeout_s=None) | models.Q(timeout_s__gte=1), name="deployment_timeout_positive"
            ),
            models.CheckConstraint(
                condition=models.Q(max_concurrency=None) | models.Q(max_concurrency__gte=1),
                name="deployment_concurrency_positive",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.upstream_name} at provider {self.provider_id}"


class OrganizationAlias(models.Model):
    """A name that one organization gives to a model; it wins over public names."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="model_aliases")
    name = models.CharField(max_length=200)
    model = models.ForeignKey(Model, models.CASCADE, related_name="organization_aliases")

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name="organization_alias_once"),
            models.CheckConstraint(condition=~models.Q(name=""), name="organization_alias_named"),
        ]

    def __str__(self) -> str:
        return f"{self.name} → {self.model_id}"


class UpstreamKey(models.Model):
    """An organization's own key at a provider, kept encrypted (`accounts.secrets`)."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="upstream_keys")
    provider = models.ForeignKey(Provider, models.CASCADE, related_name="organization_keys")
    key_encrypted = models.TextField(editable=False)
    last_four = models.CharField(max_length=4, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "provider"], name="upstream_key_once")]

    def __str__(self) -> str:
        return f"…{self.last_four} at provider {self.provider_id}"


class UpstreamObject(models.Model):
    """An object that a provider keeps under our key, such as a response: only its organization may see it again."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="upstream_objects")
    kind = models.CharField(max_length=30)
    upstream_id = models.CharField(max_length=200)
    deployment = models.ForeignKey(Deployment, models.CASCADE, related_name="upstream_objects")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "kind", "upstream_id"], name="upstream_object_once"),
            models.CheckConstraint(condition=~models.Q(upstream_id=""), name="upstream_object_named"),
        ]
        indexes = [models.Index(fields=["created_at"], name="upstream_object_created")]

    def __str__(self) -> str:
        return f"{self.kind} {self.upstream_id}"


class ClientSecret(models.Model):
    """An ephemeral key for a browser; of the secret itself only the digest is kept.

    For one Realtime session, or, without a `model`, a pass of the playground (`proxy.passes`).
    """

    digest = models.CharField(max_length=64, unique=True)
    key = models.ForeignKey(ApiKey, models.CASCADE, related_name="client_secrets")
    model = models.CharField(max_length=200)
    session = models.JSONField(default=dict)
    end_user = models.CharField(max_length=256, blank=True)
    # Whom the console gave it to: it opens nothing once they are no developer there any more.
    member = models.ForeignKey(User, models.CASCADE, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.model or 'playground'}, until {self.expires_at}"


class RealtimeSession(models.Model):
    """A Realtime session, for the pages: what it cost is in the books by response. Open while `ended_at` is empty."""

    public_id = models.UUIDField(unique=True, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="realtime_sessions", db_index=False)
    key = models.ForeignKey(ApiKey, models.SET_NULL, null=True, blank=True, related_name="realtime_sessions")
    end_user = models.CharField(max_length=256, blank=True)
    model = models.CharField(max_length=200)
    deployment = models.CharField(max_length=200, blank=True)
    responses = models.PositiveIntegerField(default=0)
    cost_nanos = models.BigIntegerField(default=0)
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    close_code = models.PositiveSmallIntegerField(null=True, blank=True)
    close_reason = models.CharField(max_length=100, blank=True)

    class Meta:
        ordering = ["-started_at"]
        indexes = [
            models.Index(fields=["organization", "-started_at"], name="realtime_by_organization"),
            models.Index(fields=["seen_at"], condition=models.Q(ended_at=None), name="realtime_open"),
        ]

    def __str__(self) -> str:
        return f"{self.model} {self.public_id}"

    @property
    def duration_ms(self) -> int:
        """For how long it has run, as far as we know."""
        return round(((self.ended_at or self.seen_at) - self.started_at).total_seconds() * 1000)


from proxy.playground_models import Conversation, ConversationMessage  # noqa: E402, F401
