"""The books in Django's admin: everything can be read, nothing of money can be changed."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path

from billing import ledger, margins, payment_admin, price_admin, price_list_admin  # noqa: F401 - they register their own
from billing.models import (
    Account,
    Budget,
    DeadLetter,
    Hold,
    IdempotencyKey,
    Transfer,
    UsageRecord,
    UsageRollup,
    Worker,
)
from billing.money import format_usd


class ReadOnlyAdmin(admin.ModelAdmin):
    """Shows rows and changes none; does not count them, for there may be millions."""

    show_full_result_count = False
    list_per_page = 50
    actions: Any = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    list_display = ["id", "kind", "organization", "available_usd", "posted", "unsettled", "held", "status"]
    list_filter = ["kind", "status"]
    list_select_related = ["organization"]
    search_fields = ["organization__slug", "organization__name"]
    actions = ["freeze", "unfreeze"]

    @admin.display(description="available")
    def available_usd(self, account: Account) -> str:
        return f"${format_usd(account.available, 4)}"

    @admin.action(description="Freeze: refuse new requests")
    def freeze(self, request: HttpRequest, accounts: models.QuerySet[Account]) -> None:
        frozen = sum(ledger.freeze(account=account, reason=f"by {request.user}") for account in accounts)
        messages.success(request, f"Froze {frozen} accounts.")

    @admin.action(description="Unfreeze")
    def unfreeze(self, request: HttpRequest, accounts: models.QuerySet[Account]) -> None:
        opened = sum(ledger.unfreeze(account=account) for account in accounts)
        messages.success(request, f"Opened {opened} accounts.")


@admin.register(Transfer)
class TransferAdmin(ReadOnlyAdmin):
    list_display = ["id", "kind", "amount", "debit", "credit", "memo", "created_at", "created_by"]
    list_filter = ["kind"]
    list_select_related = ["debit", "credit", "created_by"]
    search_fields = ["=idempotency_key", "=debit__organization__slug", "=credit__organization__slug"]


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    list_display = ["request_id", "organization", "amount", "progress", "model", "endpoint", "worker", "created_at"]
    list_select_related = ["organization"]
    search_fields = ["=request_id", "=organization__slug", "=worker"]


@admin.register(UsageRecord)
class UsageRecordAdmin(ReadOnlyAdmin):
    list_display = ["request_id", "organization", "model", "outcome", "cost_nanos", "settled_at"]
    list_select_related = ["organization"]
    search_fields = ["=request_id", "=organization__slug"]
    ordering = ["-request_id"]


@admin.register(UsageRollup)
class UsageRollupAdmin(ReadOnlyAdmin):
    list_display = ["hour", "organization", "key", "end_user", "model", "endpoint", "requests", "cost_nanos"]
    list_select_related = ["organization", "key"]
    search_fields = ["=organization__slug", "=model", "=end_user"]

    def get_urls(self) -> list[URLPattern]:
        address = path("margins/", self.admin_site.admin_view(self.margins), name="billing_usagerollup_margins")
        return [address, *super().get_urls()]

    def margins(self, request: HttpRequest) -> HttpResponse:
        """What each model earned in the days from `start` to `end`, the last 30 without them."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        last = _day(request.GET.get("end")) or datetime.now(UTC).date()
        first = _day(request.GET.get("start")) or last - timedelta(days=29)
        found = margins.by_model(first, last)
        charged, upstream = sum(one.charged for one in found), sum(one.upstream for one in found)
        context = {
            **self.admin_site.each_context(request),
            "title": "Margin per model",
            "margins": found,
            "first": first,
            "last": last,
            "charged": charged,
            "upstream": upstream,
            "earned": charged - upstream,
        }
        return render(request, "admin/billing/margins.html", context)


@admin.register(Budget)
class BudgetAdmin(ReadOnlyAdmin):
    list_display = [
        "id",
        "organization",
        "scope",
        "subject",
        "period",
        "cost_cap_nanos",
        "used_cost_nanos",
        "token_cap",
    ]
    list_filter = ["scope", "period"]
    list_select_related = ["organization"]
    search_fields = ["=organization__slug", "=end_user", "=run_id"]


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    list_display = ["id", "seen_at", "stopped_at"]
    search_fields = ["=id"]


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    list_display = ["request_id", "organization", "key", "state", "created_at"]
    list_filter = ["state"]
    list_select_related = ["organization"]
    search_fields = ["=request_id", "=key"]
    exclude = ["response", "body_sha"]


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnlyAdmin):
    list_display = ["id", "kind", "request_id", "error", "created_at", "resolved_at"]
    list_filter = ["kind"]
    search_fields = ["=request_id"]
    actions = ["resolve"]

    @admin.action(description="Mark as resolved")
    def resolve(self, request: HttpRequest, letters: models.QuerySet[DeadLetter]) -> None:
        resolved = letters.filter(resolved_at=None).update(resolved_at=Now())
        messages.success(request, f"Resolved {resolved} dead letters.")


def _day(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None
