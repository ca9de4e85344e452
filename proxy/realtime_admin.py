"""Staff's view of Realtime sessions: all that run and ran, and ending one."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts.access import origin_of
from proxy import realtime_sessions
from proxy.models import RealtimeSession


@admin.register(RealtimeSession)
class RealtimeSessionAdmin(admin.ModelAdmin):
    list_display = (
        "public_id",
        "organization",
        "model",
        "end_user",
        "responses",
        "cost_nanos",
        "started_at",
        "ended_at",
    )
    list_filter = (("ended_at", admin.EmptyFieldListFilter), "model", "started_at")
    search_fields = ("organization__slug", "organization__name", "end_user", "model", "public_id")
    list_select_related = ("organization", "key")
    date_hierarchy = "started_at"
    actions = ("end_sessions",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: RealtimeSession | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: RealtimeSession | None = None) -> bool:
        return False

    @admin.action(description="End the selected sessions", permissions=["view"])
    def end_sessions(self, request: HttpRequest, queryset: QuerySet[RealtimeSession]) -> HttpResponse | None:
        """Asks first."""
        found = list(realtime_sessions.open_ones().filter(pk__in=queryset.values("pk")))
        if not found:
            messages.warning(request, "None of these is open any more.")
            return None
        if "confirmed" not in request.POST:
            context = {**self.admin_site.each_context(request), "title": "End sessions", "sessions": found}
            return render(request, "admin/proxy/end_sessions.html", context)
        for session in found:
            realtime_sessions.end(
                session,
                by=request.user,  # type: ignore[arg-type]
                reason="Ended by the operator.",
                origin=origin_of(request),
            )
        messages.success(request, f"{len(found)} sessions end within a second.")
        return None
