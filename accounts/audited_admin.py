"""What staff change in Django's admin is in the audit log, like every other change."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from accounts import audit
from accounts.access import origin_of
from accounts.models import Organization


class AuditedAdmin(admin.ModelAdmin):
    """Writes an entry for whatever the admin itself saves or deletes; actions call verbs, which write their own."""

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        _record(request, "admin.add", obj)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        _record(request, "admin.change", obj, fields=_fields_of(message))
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet) -> Any:
        for obj in queryset:
            _record(request, "admin.delete", obj)
        return super().log_deletions(request, queryset)


class ReadOnlyAdmin(AuditedAdmin):
    """Rows that staff look at: verbs change them, or nobody does. Actions with `act` are for those who may change."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_act_permission(self, request: HttpRequest) -> bool:
        return super().has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _record(request: HttpRequest, action: str, obj: Model, **data: Any) -> None:
    organization = obj if isinstance(obj, Organization) else getattr(obj, "organization", None)
    audit.record(
        action=action,
        target=obj,
        organization=organization,
        by=request.user,  # type: ignore[arg-type]
        origin=origin_of(request),
        object=str(obj)[:200],
        **data,
    )


def _fields_of(message: Any) -> list[str]:
    """The names of the fields that a form of the admin changed, as Django's own log has them."""
    if not isinstance(message, list):
        return []
    return [field for part in message for field in part.get("changed", {}).get("fields", ())]
