"""The admin's view of invitations, exports, webhooks, deliveries and events. Secrets and tokens are nowhere."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts import deliveries, invitations, webhooks
from accounts.access import origin_of
from accounts.audited_admin import ReadOnlyAdmin
from accounts.models import Attempt, Delivery, Event, Invitation, OrganizationExport, Webhook


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    list_display = (
        "email",
        "organization",
        "role",
        "invited_by",
        "created_at",
        "expires_at",
        "accepted_at",
        "revoked_at",
    )
    list_filter = ("role", "created_at", "accepted_at", "revoked_at")
    list_select_related = ("organization", "invited_by")
    search_fields = ("email", "organization__slug", "invited_by__email")
    exclude = ("digest",)
    actions = ("revoke",)
    ordering = ("-pk",)

    @admin.action(description="Revoke the selected invitations", permissions=["act"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> None:
        rows = queryset.select_related("organization")
        who: dict[str, Any] = {"by": request.user, "origin": origin_of(request)}
        ended = sum(invitations.revoke(invitation=each, **who) for each in rows)
        messages.success(request, f"Revoked {ended} invitations.")


@admin.register(OrganizationExport)
class OrganizationExportAdmin(ReadOnlyAdmin):
    list_display = ("organization", "state", "requested_by", "rows", "byte_size", "created_at", "finished_at")
    list_filter = ("state", "created_at")
    list_select_related = ("organization", "requested_by")
    search_fields = ("organization__slug", "requested_by__email")
    exclude = ("name",)
    ordering = ("-pk",)


@admin.register(Webhook)
class WebhookAdmin(ReadOnlyAdmin):
    list_display = ("url", "organization", "is_enabled", "off_reason", "failing_since", "created_at")
    list_filter = ("is_enabled", "off_reason", "created_at")
    list_select_related = ("organization",)
    search_fields = ("url", "organization__slug", "public_id")
    exclude = ("secret_encrypted", "old_secret_encrypted")
    actions = ("turn_on", "turn_off", "replay_dead")
    ordering = ("-pk",)

    @admin.action(description="Turn the selected webhooks on", permissions=["act"])
    def turn_on(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        self._turn(request, queryset, is_enabled=True)

    @admin.action(description="Turn the selected webhooks off", permissions=["act"])
    def turn_off(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        self._turn(request, queryset, is_enabled=False)

    @admin.action(description="Replay the dead letters of the selected webhooks", permissions=["act"])
    def replay_dead(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        who: dict[str, Any] = {"by": request.user, "origin": origin_of(request)}
        count = sum(
            deliveries.replay(webhook.deliveries.filter(state=Delivery.State.DEAD), webhook=webhook, **who)
            for webhook in queryset.filter(is_enabled=True).select_related("organization")
        )
        messages.success(request, f"{count} deliveries will be sent again.")

    def _turn(self, request: HttpRequest, queryset: QuerySet[Webhook], *, is_enabled: bool) -> None:
        who: dict[str, Any] = {"by": request.user, "origin": origin_of(request)}
        done = 0
        for webhook in queryset.select_related("organization"):
            fields: dict[str, Any] = {"url": webhook.url, "kinds": webhook.kinds, "description": webhook.description}
            try:
                webhooks.change(webhook=webhook, is_enabled=is_enabled, **fields, **who)
            except webhooks.InvalidWebhook as error:
                messages.error(request, f"{webhook.url}: {error.why}")
            else:
                done += 1
        if done:
            messages.success(request, f"{done} webhooks are {'on' if is_enabled else 'off'}.")


class AttemptInline(admin.TabularInline):
    model = Attempt
    extra = 0
    can_delete = False
    readonly_fields = ("at", "status", "error", "response", "latency_ms")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = ("public_id", "webhook", "kind", "state", "attempts", "last_status", "created_at", "next_at")
    list_filter = ("state", "event__kind", "created_at")
    list_select_related = ("webhook", "event")
    search_fields = ("public_id", "webhook__url", "webhook__organization__slug", "event__public_id")
    inlines = (AttemptInline,)
    actions = ("replay",)
    ordering = ("-pk",)

    @admin.display(description="event", ordering="event__kind")
    def kind(self, delivery: Delivery) -> str:
        return delivery.event.kind

    @admin.action(description="Replay the selected deliveries", permissions=["act"])
    def replay(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        who: dict[str, Any] = {"by": request.user, "origin": origin_of(request)}
        by_webhook: dict[Webhook, list[Delivery]] = {}
        for delivery in queryset.select_related("webhook__organization"):
            by_webhook.setdefault(delivery.webhook, []).append(delivery)
        count = sum(
            deliveries.replay(rows, webhook=webhook, **who)
            for webhook, rows in by_webhook.items()
            if webhook.is_enabled
        )
        messages.success(request, f"{count} deliveries will be sent again. Those of webhooks that are off stay.")


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "kind", "organization", "public_id")
    list_filter = ("kind", "created_at")
    list_select_related = ("organization",)
    search_fields = ("public_id", "organization__slug")
    ordering = ("-pk",)
