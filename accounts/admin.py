"""The admin's view of people, organizations and keys. The audit log is read-only; secrets are nowhere."""

from typing import Any

from allauth.account.decorators import secure_admin_login
from allauth.usersessions.admin import UserSessionAdmin
from django import forms
from django.contrib import admin, messages
from django.contrib.auth.forms import ReadOnlyPasswordHashField
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts import api_sessions, closing, exports, keys, organizations, team_admin  # noqa: F401 - it registers its own
from accounts.access import origin_of
from accounts.audited_admin import AuditedAdmin, ReadOnlyAdmin
from accounts.models import ApiKey, ApiSession, AuditEntry, Membership, Organization, User

admin.site.login = secure_admin_login(admin.site.login)
# allauth searches by the name that nobody signs in with here.
UserSessionAdmin.search_fields = ["user__email", "ip"]
admin.site.site_header = admin.site.site_title = "Administration"


class UserForm(forms.ModelForm):
    """A user without a way to type a hash: passwords are reset by email."""

    password = ReadOnlyPasswordHashField(help_text="Passwords are changed by their owner, through the reset email.")

    class Meta:
        model = User
        fields = ("email", "name", "is_active", "is_staff", "is_superuser", "groups")


@admin.register(User)
class UserAdmin(AuditedAdmin):
    form = UserForm
    list_display = ("email", "name", "is_active", "is_staff", "joined_at", "last_login")
    list_filter = ("is_active", "is_staff", "joined_at")
    search_fields = ("email", "name")
    readonly_fields = ("joined_at", "last_login")
    filter_horizontal = ("groups",)
    ordering = ("-joined_at",)
    show_full_result_count = False

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Who is staff and may do what, and by which address somebody gets a new password, is for superusers to say."""
        mine = tuple(super().get_readonly_fields(request, obj))
        return mine if _is_super(request) else (*mine, "email", "is_staff", "is_superuser", "groups")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return _may_touch(request, obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return _may_touch(request, obj) and super().has_delete_permission(request, obj)


def _may_touch(request: HttpRequest, obj: User | None) -> bool:
    """Staff are changed by superusers alone."""
    return obj is None or _is_super(request) or not (obj.is_staff or obj.is_superuser)


def _is_super(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and request.user.is_superuser


def _who(request: HttpRequest) -> dict[str, Any]:
    """`by` and `origin` for a verb."""
    return {"by": request.user, "origin": origin_of(request)}


class MembershipInline(admin.TabularInline):
    model = Membership
    extra = 0
    autocomplete_fields = ("user",)
    readonly_fields = ("created_at",)


@admin.register(Organization)
class OrganizationAdmin(AuditedAdmin):
    list_display = ("name", "slug", "status", "is_personal", "created_at")
    list_filter = ("status", "is_personal", "created_at")
    search_fields = ("name", "slug", "public_id", "members__email")
    readonly_fields = ("public_id", "status", "deletes_at", "created_at")
    inlines = (MembershipInline,)
    actions = ("freeze", "unfreeze", "restore", "export")
    ordering = ("-created_at",)
    show_full_result_count = False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Its books must stay: an organization is closed, not deleted."""
        return False

    @admin.action(description="Freeze the selected organizations: refuse their keys", permissions=["change"])
    def freeze(self, request: HttpRequest, queryset: QuerySet[Organization]) -> None:
        count = sum(organizations.freeze(organization=each, **_who(request)) for each in queryset)
        messages.success(request, f"Froze {count} organizations.")

    @admin.action(description="Unfreeze the selected organizations", permissions=["change"])
    def unfreeze(self, request: HttpRequest, queryset: QuerySet[Organization]) -> None:
        count = sum(organizations.unfreeze(organization=each, **_who(request)) for each in queryset)
        messages.success(request, f"Unfroze {count} organizations.")

    @admin.action(description="Stop the deletion of the selected organizations", permissions=["change"])
    def restore(self, request: HttpRequest, queryset: QuerySet[Organization]) -> None:
        closing_ones = queryset.filter(status=Organization.Status.CLOSING)
        for organization in closing_ones:
            closing.restore(organization=organization, **_who(request))
        messages.success(request, "Done.")

    @admin.action(description="Export the selected organizations", permissions=["change"])
    def export(self, request: HttpRequest, queryset: QuerySet[Organization]) -> None:
        for organization in queryset.exclude(status=Organization.Status.DELETED):
            exports.request(organization=organization, **_who(request))
        messages.success(request, "A worker makes them; the owners download them in their settings.")


@admin.register(Membership)
class MembershipAdmin(AuditedAdmin):
    list_display = ("user", "organization", "role", "created_at")
    list_filter = ("role", "created_at")
    list_select_related = ("user", "organization")
    search_fields = ("user__email", "organization__slug")
    autocomplete_fields = ("user", "organization")
    readonly_fields = ("created_at",)
    ordering = ("-pk",)
    show_full_result_count = False


@admin.register(ApiKey)
class ApiKeyAdmin(AuditedAdmin):
    list_display = ("name", "masked", "organization", "is_live", "expires_at", "revoked_at", "last_used_at")
    list_filter = ("created_at", "revoked_at")
    list_select_related = ("organization",)
    search_fields = ("name", "prefix", "last_four", "public_id", "organization__slug")
    actions = ("revoke",)
    ordering = ("-created_at",)
    show_full_result_count = False
    exclude = ("digest",)
    readonly_fields = (
        "public_id", "organization", "prefix", "last_four", "revoked_at", "rotated_from", "created_by", "created_at",
        "last_used_at",
    )  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Keys are issued in the console or by `create_api_key`: only there is the secret shown."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(boolean=True)
    def is_live(self, key: ApiKey) -> bool:
        return key.is_live

    @admin.action(description="Revoke the selected keys", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        ended = sum(keys.revoke(key=key, **_who(request)) for key in queryset.select_related("organization"))
        messages.success(request, f"Revoked {ended} keys.")


@admin.register(ApiSession)
class ApiSessionAdmin(admin.ModelAdmin):
    list_display = ("user", "organization", "way", "label", "ip", "refreshed_at", "ended_at")
    list_filter = ("way", "created_at", "ended_at")
    list_select_related = ("user", "organization")
    search_fields = ("user__email", "organization__slug", "public_id", "label")
    actions = ("end",)
    ordering = ("-refreshed_at",)
    exclude = ("refresh_digest",)
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.action(description="Sign out the selected programs")
    def end(self, request: HttpRequest, queryset: QuerySet[ApiSession]) -> None:
        rows = queryset.select_related("organization")
        ended = sum(api_sessions.end(session, by=request.user) for session in rows)  # type: ignore[arg-type]
        messages.success(request, f"Signed out {ended} programs.")


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "action", "actor", "via", "organization", "target_type", "target_id", "ip")
    list_filter = ("action", "created_at")
    list_select_related = ("actor", "organization")
    search_fields = ("action", "target_id", "actor__email", "organization__slug", "via")
    ordering = ("-id",)
