"""Staff's view of packs, orders, Stripe's events, lots and codes. What moved money is read-only."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts import audit
from accounts.access import origin_of
from billing import codes, stripe_api, stripe_events, stripe_plans
from billing.models import Lot, LotUse, Order, Pack, Plan, RedeemCode, StripeEvent, StripeObject, Subscription, Transfer
from billing.purchases import PaymentMismatch


class ReadOnly(admin.ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Pack)
class PackAdmin(admin.ModelAdmin):
    list_display = ("name", "slug", "price_cents", "currency", "credits", "bonus_credits", "is_popular", "is_active")
    list_editable = ("is_active",)
    prepopulated_fields = {"slug": ("name",)}

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A pack that was ever ordered stays; take it off sale instead."""
        return obj is None or not obj.orders.exists()


@admin.register(Plan)
class PlanAdmin(admin.ModelAdmin):
    """A change is for those who subscribe from now on."""

    list_display = (
        "name",
        "slug",
        "price_cents",
        "currency",
        "monthly_credits",
        "credit_days",
        "trial_days",
        "is_active",
    )
    list_editable = ("is_active",)
    prepopulated_fields = {"slug": ("name",)}

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A plan that anybody ever had stays; take it off sale instead."""
        return obj is None or not obj.subscriptions.exists()


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnly):
    list_display = ("organization", "plan", "status", "cancel_at_period_end", "period_ends_at", "created_at")
    list_filter = ("status", "plan")
    search_fields = ("organization__slug", "organization__name", "stripe_id", "public_id")
    list_select_related = ("organization", "plan")
    actions = ("pull",)

    @admin.action(description="Ask Stripe how the selected subscriptions stand", permissions=["view"])
    def pull(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        for subscription in queryset:
            try:
                stripe_plans.pull(subscription)
            except (stripe_api.StripeUnavailable, PaymentMismatch) as error:
                messages.error(request, f"{subscription}: {error}")
        messages.success(request, f"Looked at {queryset.count()} subscriptions.")


@admin.register(Order)
class OrderAdmin(ReadOnly):
    """From an order to its event, its transfers, its lots and what they were spent on."""

    list_display = (
        "public_id",
        "organization",
        "title",
        "status",
        "paid_cents",
        "refunded_cents",
        "disputed_cents",
        "created_at",
    )
    list_filter = ("status", "is_automatic", "pack", "created_at")
    search_fields = (
        "public_id",
        "organization__slug",
        "organization__name",
        "payment_intent_id",
        "checkout_session_id",
    )
    list_select_related = ("organization", "pack", "subscription__plan")
    date_hierarchy = "created_at"
    readonly_fields = ("trail",)
    actions = ("refund", "pull")

    @admin.display(description="From Stripe to what was spent")
    def trail(self, order: Order) -> SafeString:
        transfers = Transfer.objects.filter(group=order.public_id).order_by("pk")
        lots = Lot.objects.filter(transfer__in=transfers)
        rows = [(f"Event {event.type}", event.outcome, _link("stripeevent", event.pk)) for event in order.events.all()]
        rows += [(f"Transfer, {one.kind}", f"{one.amount} n$", _link("transfer", one.pk)) for one in transfers]
        rows += [(f"Lot, {lot.kind}", f"{lot.remaining} of {lot.amount} n$ left", _link("lot", lot.pk)) for lot in lots]
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}: {} {}</li>", rows))

    @admin.action(description="Refund the selected orders in full", permissions=["view"])
    def refund(self, request: HttpRequest, queryset: QuerySet[Order]) -> HttpResponse | None:
        """Asks first; Stripe's event then takes the credit back."""
        paid = list(queryset.filter(status=Order.Status.PAID, payment_intent_id__isnull=False))
        paid = [order for order in paid if order.refunded_cents < order.paid_cents]
        if not paid:
            messages.warning(request, "None of these can be refunded.")
            return None
        if "confirmed" not in request.POST:
            context = {**self.admin_site.each_context(request), "title": "Refund orders", "orders": paid}
            return render(request, "admin/billing/refund_orders.html", context)
        for order in paid:
            try:
                stripe_api.refund(order, cents=order.paid_cents - order.refunded_cents)
            except stripe_api.StripeUnavailable as error:
                messages.error(request, f"{order}: {error}")
                continue
            audit.record(
                action="credits.refund",
                target=order.organization,
                organization=order.organization,
                by=request.user,  # type: ignore[arg-type]
                origin=origin_of(request),
                order=str(order.public_id),
            )
            messages.success(request, f"{order}: refunded. The credit is taken back when Stripe confirms it.")
        return None

    @admin.action(description="Ask Stripe how the selected orders stand", permissions=["view"])
    def pull(self, request: HttpRequest, queryset: QuerySet[Order]) -> None:
        for order in queryset:
            try:
                stripe_events.pull(order)
            except (stripe_api.StripeUnavailable, PaymentMismatch) as error:
                messages.error(request, f"{order}: {error}")
        messages.success(request, f"Looked at {queryset.count()} orders.")


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnly):
    list_display = ("stripe_id", "type", "outcome", "order", "received_at")
    list_filter = ("type", "received_at")
    search_fields = ("stripe_id", "outcome", "order__public_id")
    list_select_related = ("order",)


@admin.register(StripeObject)
class StripeObjectAdmin(ReadOnly):
    """What Stripe has, as its events showed it."""

    list_display = ("stripe_id", "kind", "told_at")
    list_filter = ("kind", "told_at")
    search_fields = ("stripe_id", "data__customer", "data__payment_intent", "data__metadata__order")


@admin.register(Lot)
class LotAdmin(ReadOnly):
    list_display = ("pk", "account", "kind", "amount", "remaining", "expires_at", "created_at")
    list_filter = ("kind", "created_at")
    search_fields = ("account__organization__slug",)
    list_select_related = ("account",)
    readonly_fields = ("spent_on",)

    @admin.display(description="Spent on")
    def spent_on(self, lot: Lot) -> SafeString:
        uses = LotUse.objects.filter(lot=lot).select_related("transfer").order_by("-pk")[:200]
        rows = [
            (f"{use.amount} n$", use.transfer.kind, _link("transfer", use.transfer_id), _requests_of(use.transfer))
            for use in uses
        ]
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{} {} {} {}</li>", rows))


class CodeForm(forms.ModelForm):
    class Meta:
        model = RedeemCode
        fields = ["credits", "max_uses", "valid_until", "credit_days", "note"]


@admin.register(RedeemCode)
class RedeemCodeAdmin(admin.ModelAdmin):
    """A code is shown once, when it is made."""

    form = CodeForm
    list_display = ("hint", "credits", "uses", "max_uses", "valid_until", "note", "created_at")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: RedeemCode, form: Any, change: bool) -> None:
        code = codes.create(**form.cleaned_data, by=request.user)  # type: ignore[arg-type]
        made = RedeemCode.objects.latest("pk")
        obj.pk, obj.hint = made.pk, made.hint
        messages.warning(request, f"The code is {code}. It is shown this once.")


def _link(model: str, pk: object) -> SafeString:
    return format_html('<a href="{}">{}</a>', reverse(f"admin:billing_{model}_change", args=[pk]), pk)


def _requests_of(transfer: Transfer) -> str:
    if transfer.kind != Transfer.Kind.USAGE:
        return ""
    address = reverse("admin:billing_usagerecord_changelist")
    return format_html('<a href="{}?transfer__id__exact={}">its requests</a>', address, transfer.pk)
