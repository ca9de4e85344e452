"""Staff's view of providers, models and deployments."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest

from proxy import (
    incident_admin,  # noqa: F401 - adds its action
    providers,
    realtime_admin,  # noqa: F401 - registers its own
    support_admin,  # noqa: F401 - adds its actions
)
from proxy.models import Alias, Deployment, Model, Provider


class ProviderForm(forms.ModelForm):
    """The API key is written here and never shown again."""

    api_key = forms.CharField(
        required=False,
        strip=True,
        label="API key",
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text="Stored encrypted and never shown. Leave empty to keep the present one.",
    )
    forget_api_key = forms.BooleanField(required=False, label="Forget the API key")

    report_key = forms.CharField(
        required=False,
        strip=True,
        label="Key for cost reports",
        widget=forms.PasswordInput(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text="OpenAI's admin key, to compare each day's costs with ours. Stored encrypted and never shown; "
        "a single dash forgets it.",
    )

    class Meta:
        model = Provider
        fields = ["slug", "name", "kind", "base_url", "api_version", "report_project", "is_enabled", "allow_private"]

    def clean_base_url(self) -> str:
        return self.cleaned_data["base_url"].rstrip("/")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("api_key") and cleaned.get("forget_api_key"):
            self.add_error("forget_api_key", "Give a new key or forget the present one, not both.")
        return cleaned


class EnableActions:
    """The two actions of everything that can be switched off."""

    @admin.action(description="Enable the selected rows", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        changed = providers.set_enabled(rows=queryset, is_enabled=True)
        messages.success(request, f"{changed} enabled")

    @admin.action(description="Disable the selected rows", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        changed = providers.set_enabled(rows=queryset, is_enabled=False)
        messages.success(request, f"{changed} disabled")


@admin.register(Provider)
class ProviderAdmin(EnableActions, admin.ModelAdmin):
    form = ProviderForm
    list_display = ["slug", "kind", "base_url", "has_key", "deployed", "is_enabled"]
    list_filter = ["kind", "is_enabled"]
    search_fields = ["slug", "name", "base_url"]
    readonly_fields = ["has_key", "created_at"]
    actions = ["enable", "disable", "deploy_known"]
    fieldsets = [
        (None, {"fields": ["slug", "name", "kind", "is_enabled"]}),
        ("Address", {"fields": ["base_url", "api_version", "allow_private"]}),
        ("API key", {"fields": ["has_key", "api_key", "forget_api_key"]}),
        ("Cost reports", {"fields": ["report_key", "report_project"]}),
        ("History", {"fields": ["created_at"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        enabled = Count("deployments", filter=Q(deployments__is_enabled=True))
        return super().get_queryset(request).annotate(deployed_count=enabled)

    @admin.display(description="API key", boolean=True)
    def has_key(self, provider: Provider) -> bool:
        return provider.has_api_key

    @admin.display(description="Enabled deployments", ordering="deployed_count")
    def deployed(self, provider: Provider) -> int:
        return provider.deployed_count

    @admin.action(description="Deploy the models that the catalogue knows there", permissions=["change"])
    def deploy_known(self, request: HttpRequest, queryset: QuerySet[Provider]) -> None:
        new = sum(providers.deploy_known(provider=provider) for provider in queryset)
        messages.success(request, f"{new} new deployments")

    def save_model(self, request: HttpRequest, obj: Provider, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if form.cleaned_data["api_key"] or form.cleaned_data["forget_api_key"]:
            providers.set_api_key(provider=obj, api_key=form.cleaned_data["api_key"])
        if form.cleaned_data["report_key"]:
            providers.set_report_key(provider=obj, key=form.cleaned_data["report_key"].removeprefix("-"))


class DeploymentInline(admin.TabularInline):
    model = Deployment
    extra = 0
    fields = ["provider", "upstream_name", "priority", "weight", "timeout_s", "max_concurrency", "is_enabled"]


class AliasInline(admin.TabularInline):
    model = Alias
    extra = 0


@admin.register(Model)
class ModelAdmin(admin.ModelAdmin):
    list_display = ["name", "modality", "status", "owned_by", "context_window", "is_listed"]
    list_filter = ["modality", "status", "is_listed", "deployments__provider"]
    search_fields = ["name", "owned_by", "aliases__name"]
    readonly_fields = ["created_at"]
    inlines = [DeploymentInline, AliasInline]
    fieldsets = [
        (None, {"fields": ["name", "modality", "owned_by", "context_window", "max_output_tokens", "is_listed"]}),
        (
            "What it can",
            {"classes": ["collapse"], "fields": ["capabilities", "endpoints", "snapshots", "upstream_names"]},
        ),
        ("Its end", {"classes": ["collapse"], "fields": ["status", "deprecated_on", "successor"]}),
        ("History", {"classes": ["collapse"], "fields": ["notes", "created_at"]}),
    ]
    actions = ["list_models", "unlist_models"]

    @admin.action(description="Offer the selected models", permissions=["change"])
    def list_models(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        messages.success(request, f"{queryset.exclude(is_listed=True).update(is_listed=True)} offered")

    @admin.action(description="Stop offering the selected models", permissions=["change"])
    def unlist_models(self, request: HttpRequest, queryset: QuerySet[Model]) -> None:
        messages.success(request, f"{queryset.exclude(is_listed=False).update(is_listed=False)} no longer offered")


@admin.register(Deployment)
class DeploymentAdmin(EnableActions, admin.ModelAdmin):
    list_display = ["model", "provider", "upstream_name", "priority", "weight", "is_enabled"]
    list_filter = ["provider", "is_enabled", "model__modality"]
    list_select_related = ["model", "provider"]
    search_fields = ["model__name", "upstream_name"]
    autocomplete_fields = ["model"]
    actions = ["enable", "disable"]


@admin.register(Alias)
class AliasAdmin(admin.ModelAdmin):
    list_display = ["name", "model"]
    list_select_related = ["model"]
    search_fields = ["name", "model__name"]
    autocomplete_fields = ["model"]
