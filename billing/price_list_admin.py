"""Staff's view of price lists, resellers, corrections of prices, and what providers report."""

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from billing import price_lists, rerating, tasks
from billing.models import BillingProfile, PriceList, ProviderReport, Rerating, ReratingLine, Resale
from billing.payment_admin import ReadOnly


class PriceListForm(forms.ModelForm):
    class Meta:
        model = PriceList
        fields = ["slug", "name", "owner", "markup_bps", "markups"]
        help_texts = {
            "markup_bps": "Hundredths of a per cent on the standard prices: 1500 is 15 %, -1000 a tenth off.",
            "markups": 'For some models: {"gpt-6*": 2000, "embed": 0}',
            "owner": "The reseller who earns the markup; empty: us.",
        }

    def clean_markups(self) -> dict[str, int]:
        given = self.cleaned_data["markups"] or {}
        if not isinstance(given, dict) or not all(
            isinstance(bps, int) and not isinstance(bps, bool) and price_lists.LEAST <= bps <= price_lists.MOST
            for bps in given.values()
        ):
            raise forms.ValidationError("An object of model names and whole numbers from -9999 to 100000.")
        return given


@admin.register(PriceList)
class PriceListAdmin(admin.ModelAdmin):
    form = PriceListForm
    list_display = ["name", "slug", "owner", "markup_bps"]
    search_fields = ["name", "slug", "owner__slug"]
    list_select_related = ["owner"]
    autocomplete_fields = ["owner"]

    def get_readonly_fields(self, request: HttpRequest, obj: PriceList | None = None) -> list[str]:
        """Prices are of the slug that they were made for."""
        return ["slug"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: PriceList | None = None) -> bool:
        """A list that anybody pays by stays."""
        return obj is None or not obj.profiles.exists()

    def save_model(self, request: HttpRequest, obj: PriceList, form: Any, change: bool) -> None:
        price_lists.save(obj)


@admin.register(BillingProfile)
class BillingProfileAdmin(admin.ModelAdmin):
    """Which prices an organization pays, and whether it may resell."""

    fields = ["organization", "price_list", "is_reseller"]
    list_display = ["organization", "price_list", "is_reseller"]
    list_filter = ["is_reseller", "price_list"]
    search_fields = ["organization__slug", "organization__name"]
    list_select_related = ["organization", "price_list"]
    autocomplete_fields = ["organization"]

    def get_readonly_fields(self, request: HttpRequest, obj: BillingProfile | None = None) -> list[str]:
        return ["organization"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: BillingProfile | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: BillingProfile, form: Any, change: bool) -> None:
        with transaction.atomic():
            super().save_model(request, obj, form, change)
            if "price_list" in form.changed_data:
                by = request.user
                price_lists.assign(organization=obj.organization, price_list=obj.price_list, by=by)  # type: ignore[arg-type]


@admin.register(Resale)
class ResaleAdmin(ReadOnly):
    list_display = ["parent", "child", "allowance_nanos", "allowed_month", "earned_through"]
    search_fields = ["parent__slug", "child__slug"]
    list_select_related = ["parent", "child"]


@admin.register(ProviderReport)
class ProviderReportAdmin(ReadOnly):
    list_display = ["day", "provider", "reported", "recorded", "difference", "is_within_tolerance"]
    list_filter = ["is_within_tolerance", "provider", "day"]

    @admin.display(description="Difference")
    def difference(self, report: ProviderReport) -> int:
        return report.reported - report.recorded


class LineInline(admin.TabularInline):
    model = ReratingLine
    fields = readonly_fields = ["organization", "requests", "charged", "correct", "difference", "transfer"]
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReratingForm(forms.ModelForm):
    class Meta:
        model = Rerating
        fields = ["wrong", "right", "starts_at", "ends_at", "asks_for_more", "reason"]
        help_texts = {
            "wrong": "A standard price is corrected with the prices that lists made from it.",
            "right": "Set the right price first: it is then in the price book.",
            "starts_at": "UTC",
        }

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        wrong, right = cleaned.get("wrong"), cleaned.get("right")
        if wrong and right and (wrong.model, wrong.side) != (right.model, right.side):
            self.add_error("right", "This is the price of something else.")
        elif wrong and right and wrong.price_list != right.price_list:
            self.add_error("right", "This is a price of another list.")
        if cleaned.get("starts_at") and cleaned.get("ends_at") and cleaned["starts_at"] >= cleaned["ends_at"]:
            self.add_error("ends_at", "This is before the beginning.")
        return cleaned


@admin.register(Rerating)
class ReratingAdmin(admin.ModelAdmin):
    """First reckoned, in the background, then looked at, then applied by an action that asks."""

    form = ReratingForm
    list_display = ["pk", "wrong", "right", "status", "requests", "skipped", "created_by", "applied_at"]
    list_filter = ["status"]
    list_select_related = ["wrong", "right", "created_by"]
    raw_id_fields = ["wrong", "right"]
    inlines = [LineInline]
    actions = ["apply"]

    def has_change_permission(self, request: HttpRequest, obj: Rerating | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Rerating | None = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Rerating, form: Any, change: bool) -> None:
        obj.created_by = request.user  # type: ignore[assignment]
        obj.save()
        transaction.on_commit(lambda: tasks.rerate.delay(obj.pk))
        messages.info(request, "It is being reckoned. Reload to see how far it is.")

    @admin.action(description="Apply the selected corrections", permissions=["view"])
    def apply(self, request: HttpRequest, queryset: QuerySet[Rerating]) -> HttpResponse | None:
        """Asks first."""
        ready = queryset.filter(status=Rerating.Status.READY).prefetch_related("lines__organization")
        if not ready:
            messages.warning(request, "None of these is ready to be applied.")
            return None
        if "confirmed" not in request.POST:
            context = {**self.admin_site.each_context(request), "title": "Apply corrections", "reratings": ready}
            return render(request, "admin/billing/apply_reratings.html", context)
        for one in ready:
            try:
                done = rerating.apply(one, by=request.user)  # type: ignore[arg-type]
            except rerating.NotReady:
                messages.warning(request, f"{one}: its requests were corrected just now. It is being reckoned again.")
                continue
            messages.success(request, f"{one}: {done} organizations were settled and told.")
        for pk in Rerating.objects.filter(status=Rerating.Status.RECKONING).values_list("pk", flat=True):
            transaction.on_commit(partial(tasks.rerate.delay, pk))
        return None
