"""The billing page, the way to Stripe's checkout and back, statements, and Stripe's webhook."""

from datetime import date
from decimal import Decimal
from typing import Any
from uuid import uuid4

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import models, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Organization, Role
from billing import (
    codes,
    ledger,
    lots,
    low_balance,
    moves,
    purchases,
    statements,
    stripe_api,
    stripe_events,
    subscriptions,
)
from billing.models import BillingProfile, Order, Pack, Plan, Transfer
from billing.money import NANOS_PER_CREDIT, format_credits

TRANSFERS_PER_PAGE = 50
ORDERS_PER_PAGE = 10
MAX_EVENT_BYTES = 512 * 1024
_FOUR_PLACES = {"max_digits": 14, "decimal_places": 4}


class RedeemForm(forms.Form):
    code = forms.CharField(label="Code", max_length=40, widget=forms.TextInput(attrs={"autocomplete": "off"}))


class MoveForm(forms.Form):
    recipient = forms.SlugField(label="To organization", help_text="Its short name, as in its address.")
    credits = forms.DecimalField(label="Credits", min_value=Decimal("0.0001"), **_FOUR_PLACES)
    memo = forms.CharField(label="Note", max_length=200, required=False)


class AlertForm(forms.Form):
    credits = forms.DecimalField(
        label="Tell us below", required=False, min_value=Decimal(0), help_text="Credits. Empty: never.", **_FOUR_PLACES
    )


@login_required
def billing(request: MemberRequest, slug: str) -> HttpResponse:
    """Balance, packs, codes, transfers, alerts, orders and statements; `part` says which form was sent."""
    organization = organization_for(request, slug, Role.VIEWER)
    if settings.IS_SELF_HOSTED:
        raise Http404
    permit(request, "billing.view" if request.method == "GET" else "billing.manage")
    part = request.POST.get("part", "")
    profile = BillingProfile.objects.filter(organization=organization).select_related("top_up_pack").first()
    threshold = profile.low_balance_nanos if profile else None
    redeem = RedeemForm(request.POST if part == "redeem" else None, prefix="redeem")
    move = MoveForm(request.POST if part == "move" else None, prefix="move")
    alert = AlertForm(
        request.POST if part == "alert" else None,
        prefix="alert",
        initial={"credits": None if threshold is None else Decimal(threshold) / NANOS_PER_CREDIT},
    )
    if request.method == "POST":
        answer = _obey(request, organization, redeem, move, alert)
        if answer is not None:
            return answer
    elif "canceled" in request.GET:  # the order stays open: it may still be paid in another tab
        messages.info(request, "The purchase was canceled. Nothing was charged.")
    account = ledger.account_of(organization)
    orders = organization.orders.select_related("pack", "subscription__plan").exclude(status=Order.Status.OPEN)
    context = {
        "organization": organization,
        "balance": ledger.balance_of(organization),
        "is_frozen": account.status == account.Status.FROZEN,
        "lots": lots.summary(account),
        "packs": Pack.objects.filter(is_active=True) if stripe_api.is_on() else [],
        "has_customer": bool(profile and profile.stripe_customer_id),
        "orders": Paginator(orders, ORDERS_PER_PAGE).get_page(request.GET.get("orders")),
        "subscription": subscriptions.current(organization),
        "top_up": profile if profile and (profile.top_up_pack_id or profile.top_up_problem) else None,
        "is_selling": stripe_api.is_on(),
        "is_reseller": bool(profile and profile.is_reseller),
        "months": statements.months(organization)[:24],
        "redeem": redeem,
        "move": move,
        "alert": alert,
        "may_manage": can(request.membership, "billing.manage"),
    }
    return render(request, "billing/billing.html", context, status=422 if request.method == "POST" else 200)


@require_POST
@login_required
def buy(request: MemberRequest, slug: str) -> HttpResponse:
    """An order, and Stripe's page to pay it."""
    organization = organization_for(request, slug, Role.VIEWER)
    permit(request, "billing.manage")
    pack = get_object_or_404(Pack, slug=request.POST.get("pack", ""), is_active=True)
    try:
        if not stripe_api.is_on():
            raise stripe_api.PaymentsOff("Payments are not set up here.")
        order = purchases.order(organization=organization, pack=pack, by=request.user, origin=origin_of(request))
        return HttpResponseRedirect(stripe_api.checkout(order))
    except stripe_api.StripeUnavailable as error:
        messages.error(request, str(error))
        return redirect("billing:billing", slug)


@require_POST
@login_required
def portal(request: MemberRequest, slug: str) -> HttpResponse:
    """To Stripe's portal: payment methods, invoices, receipts."""
    organization = organization_for(request, slug, Role.VIEWER)
    permit(request, "billing.manage")
    try:
        return HttpResponseRedirect(stripe_api.portal(organization))
    except stripe_api.StripeUnavailable as error:
        messages.error(request, str(error))
        return redirect("billing:billing", slug)


@require_safe
@login_required
def checkout_done(request: MemberRequest, slug: str) -> HttpResponse:
    """Back from Stripe: the order as Stripe has it now, whether or not its webhook was here."""
    organization = organization_for(request, slug, Role.VIEWER)
    permit(request, "billing.view")
    orders = organization.orders.select_related("pack", "subscription__plan")
    order = get_object_or_404(orders, checkout_session_id=request.GET.get("session_id", ""))
    if order.status == Order.Status.OPEN:
        try:
            stripe_events.pull(order)
        except (stripe_api.StripeUnavailable, purchases.PaymentMismatch):
            messages.warning(request, "The payment provider does not answer yet. Your credit arrives by itself.")
        order.refresh_from_db()
    context = {"organization": organization, "order": order, "balance": ledger.balance_of(organization)}
    return render(request, "billing/checkout_done.html", context)


@require_safe
@login_required
def statement(request: MemberRequest, slug: str, month: str, extension: str = "") -> HttpResponse:
    """A month, as a page, CSV or PDF."""
    organization = organization_for(request, slug, Role.VIEWER)
    permit(request, "billing.view")
    try:
        first = date.fromisoformat(f"{month}-01")
    except ValueError:
        raise Http404 from None
    if first not in statements.months(organization):
        raise Http404
    made = statements.of_month(organization, first)
    name = f"{organization.slug}-{month}"
    if extension == "csv":
        answer = HttpResponse(statements.as_csv(made), content_type="text/csv; charset=utf-8")
    elif extension == "pdf":
        answer = HttpResponse(statements.as_pdf(made, site_name=settings.SITE_NAME), content_type="application/pdf")
    else:
        return render(request, "billing/statement.html", {"organization": organization, "statement": made})
    answer["Content-Disposition"] = f'attachment; filename="{name}.{extension}"'
    return answer


@require_safe
@login_required
def transfer_list(request: MemberRequest, slug: str) -> HttpResponse:
    """Every movement of the balance, the newest first."""
    organization = organization_for(request, slug, Role.VIEWER)
    permit(request, "billing.view")
    account = ledger.account_of(organization)
    rows = Transfer.objects.filter(models.Q(debit=account) | models.Q(credit=account)).order_by("-pk")
    page = Paginator(rows, TRANSFERS_PER_PAGE).get_page(request.GET.get("page"))
    shown = [
        {
            "at": row.created_at,
            "label": statements.label_of(row.kind),
            "memo": row.memo,
            "nanos": row.amount if row.credit_id == account.pk else -row.amount,
        }
        for row in page
    ]
    context = {"organization": organization, "page": page, "transfers": shown}
    return render(request, "billing/transfers.html", context)


@require_safe
def pricing(request: HttpRequest) -> HttpResponse:
    """Everybody's page: what credit costs."""
    if settings.IS_SELF_HOSTED:
        raise Http404
    return render(
        request,
        "billing/pricing.html",
        {"packs": Pack.objects.filter(is_active=True), "plans": Plan.objects.filter(is_active=True)},
    )


@method_decorator([csrf_exempt, transaction.non_atomic_requests], name="dispatch")
class StripeWebhook(View):
    """Stripe's events. Without a secret there is no such address; without a good signature, no effect."""

    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        if not settings.STRIPE_WEBHOOK_SECRETS:
            raise Http404
        if int(request.headers.get("content-length") or 0) > MAX_EVENT_BYTES:
            return HttpResponse(status=413)
        try:
            event = stripe_events.verify(request.body, request.headers.get("stripe-signature", ""))
        except (stripe_events.BadSignature, stripe_events.WrongMode) as problem:
            return HttpResponse(type(problem).__name__, status=400, content_type="text/plain")
        stripe_events.receive(event)
        return HttpResponse("ok", content_type="text/plain")


def permit(request: MemberRequest, permission: str) -> None:
    if not can(request.membership, permission):
        raise PermissionDenied


def _obey(
    request: MemberRequest, organization: Organization, redeem: RedeemForm, move: MoveForm, alert: AlertForm
) -> HttpResponse | None:
    """Do what the form says; None where it has to be shown again."""
    part = request.POST.get("part", "")
    done: str | None = None
    if part == "redeem" and redeem.is_valid():
        done = _redeem(request, organization, redeem)
    elif part == "move" and move.is_valid():
        recipient = Organization.objects.filter(slug=move.cleaned_data["recipient"]).first()
        if recipient is None or recipient == organization:
            move.add_error("recipient", "There is no other organization of this name.")
        elif "confirmed" not in request.POST:
            context = {**move.cleaned_data, "organization": organization, "recipient": recipient, "form": move}
            context["token"] = uuid4().hex  # a form that is sent twice moves once
            return render(request, "billing/move_confirm.html", context)
        else:
            done = _move(request, organization, recipient, move)
    elif part == "alert" and alert.is_valid():
        wanted = alert.cleaned_data["credits"]
        nanos = None if wanted is None else int(wanted * NANOS_PER_CREDIT)
        low_balance.set_threshold(organization=organization, nanos=nanos)
        done = "Saved the alert."
    if done is None:
        return None
    messages.success(request, done)
    return redirect("billing:billing", organization.slug)


def _redeem(request: MemberRequest, organization: Organization, form: RedeemForm) -> str | None:
    try:
        given = codes.redeem(
            organization=organization, code=form.cleaned_data["code"], by=request.user, origin=origin_of(request)
        )
    except codes.CodeRefused as refusal:
        form.add_error("code", str(refusal))
        return None
    return f"Added {format_credits(given.amount)} credits."


def _move(request: MemberRequest, organization: Organization, recipient: Organization, form: MoveForm) -> str | None:
    amount = int(form.cleaned_data["credits"] * NANOS_PER_CREDIT)
    fields: dict[str, Any] = {"memo": form.cleaned_data["memo"], "idempotency_key": request.POST.get("token", "")[:64]}
    try:
        moves.send(
            sender=organization,
            recipient=recipient,
            amount=amount,
            by=request.user,
            origin=origin_of(request),
            **fields,
        )
    except moves.NotEnough as problem:
        form.add_error("credits", str(problem))
        return None
    return f"Sent {format_credits(amount)} credits to {recipient.name}."
