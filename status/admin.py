"""The admin of the status page: services and checks, incidents with their story, maintenance, subscribers."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import BaseModelFormSet, ModelForm
from django.http import HttpRequest

from status import incidents, snapshot
from status.models import Check, Incident, IncidentUpdate, Maintenance, Service, Subscriber


class CheckInline(admin.TabularInline):
    model = Check
    extra = 0
    readonly_fields = ("checked_at", "failures", "latency_ms", "error")


@admin.register(Service)
class ServiceAdmin(admin.ModelAdmin):
    list_display = ("name", "group", "position", "state", "forced_state", "reason", "observed_at", "is_public")
    list_editable = ("position", "forced_state")
    list_filter = ("group", "state", "is_public")
    search_fields = ("name", "slug", "provider", "model_prefix")
    prepopulated_fields = {"slug": ("name",)}
    readonly_fields = ("state", "reason", "fault", "observed_at", "calm_since")
    inlines = (CheckInline,)

    def save_model(self, request: HttpRequest, obj: Service, form: ModelForm, change: bool) -> None:
        super().save_model(request, obj, form, change)
        snapshot.refresh()


class UpdateInline(admin.StackedInline):
    """The story. What was said stays; a new entry goes out to the subscribers when the page is saved."""

    model = IncidentUpdate
    extra = 1
    fields = ("status", "body", "at", "by")
    readonly_fields = ("at", "by")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Incident)
class IncidentAdmin(admin.ModelAdmin):
    list_display = (
        "title",
        "status",
        "severity",
        "fault",
        "started_at",
        "resolved_at",
        "is_automatic",
        "is_taken_over",
    )
    list_filter = ("status", "severity", "fault", "is_automatic", "started_at")
    search_fields = ("title", "updates__body")
    filter_horizontal = ("services",)
    readonly_fields = ("public_id", "status", "is_automatic", "merged_into")
    inlines = (UpdateInline,)
    actions = ("take_over", "resolve", "merge")
    show_full_result_count = False

    def save_formset(self, request: HttpRequest, form: ModelForm, formset: BaseModelFormSet, change: bool) -> None:
        """New entries go through the verb, so that subscribers and webhooks hear of them."""
        for entry in formset.save(commit=False):
            incidents.update(incident=form.instance, status=entry.status, body=entry.body, by=request.user)  # type: ignore[arg-type]
        formset.save_m2m()
        snapshot.refresh()

    @admin.action(description="Take over: the watch no longer writes it")
    def take_over(self, request: HttpRequest, queryset: QuerySet[Incident]) -> None:
        messages.success(request, f"Took over {queryset.update(is_taken_over=True)} incidents.")

    @admin.action(description="Resolve")
    def resolve(self, request: HttpRequest, queryset: QuerySet[Incident]) -> None:
        ended = sum(
            incidents.resolve(incident=incident, body="This incident is over.", by=request.user)  # type: ignore[arg-type]
            for incident in queryset
        )
        snapshot.refresh()
        messages.success(request, f"Resolved {ended} incidents.")

    @admin.action(description="Merge into the oldest of the selected")
    def merge(self, request: HttpRequest, queryset: QuerySet[Incident]) -> None:
        chosen = list(queryset.filter(merged_into=None).order_by("started_at"))
        if len(chosen) < 2:
            messages.error(request, "Select two incidents or more that are not merged yet.")
            return
        for incident in chosen[1:]:
            incidents.merge(incident=incident, into=chosen[0], by=request.user)  # type: ignore[arg-type]
        snapshot.refresh()
        messages.success(request, f"Merged {len(chosen) - 1} incidents into “{chosen[0].title}”.")


@admin.register(Maintenance)
class MaintenanceAdmin(admin.ModelAdmin):
    list_display = ("title", "starts_at", "ends_at", "announced_at")
    list_filter = ("starts_at",)
    search_fields = ("title", "body")
    filter_horizontal = ("services",)
    readonly_fields = ("announced_at",)
    actions = ("announce",)

    def save_related(self, request: HttpRequest, form: ModelForm, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        snapshot.refresh()

    @admin.action(description="Tell the subscribers")
    def announce(self, request: HttpRequest, queryset: QuerySet[Maintenance]) -> None:
        told = sum(incidents.announce_maintenance(maintenance) for maintenance in queryset)
        messages.success(request, f"{told} announcements go out.")


@admin.register(Subscriber)
class SubscriberAdmin(admin.ModelAdmin):
    list_display = ("email", "url", "asked_at", "confirmed_at")
    list_filter = ("confirmed_at",)
    search_fields = ("email", "url")
    readonly_fields = ("email", "url", "asked_at", "confirmed_at")
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only the owner of an address may subscribe it."""
        return False
