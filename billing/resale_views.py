"""The customers of a reseller: who they are, what they may spend, what they pay on top."""

from decimal import Decimal

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import F, OuterRef, Subquery
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone

from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Organization, Role
from billing import price_lists, reselling
from billing.models import Account, AccountKind, Resale
from billing.money import NANOS_PER_CREDIT
from billing.payment_views import permit

PER_PAGE = 50
BPS = 100


class ChildForm(forms.Form):
    name = forms.CharField(label="Name", max_length=100)


class MarkupForm(forms.Form):
    percent = forms.DecimalField(
        label="On top of our prices",
        min_value=Decimal(0),
        max_value=Decimal(1000),
        decimal_places=2,
        help_text="Per cent. You are paid it for each day, when that day is settled.",
    )


class AllowanceForm(forms.Form):
    credits = forms.DecimalField(
        label="Allowance",
        required=False,
        min_value=Decimal("0.0001"),
        max_digits=14,
        decimal_places=4,
        help_text="Credits. Filled up from your balance at the beginning of each month (UTC). Empty: you send credit "
        "yourself.",
    )
    pays_our_prices = forms.BooleanField(label="Pays our price list", required=False)


@login_required
def resale(request: MemberRequest, slug: str) -> HttpResponse:
    """The reseller's customers, and the forms for another one and for the markup."""
    organization = _reseller(request, slug)
    part = request.POST.get("part", "")
    price_list = reselling.price_list_of(organization)
    child = ChildForm(request.POST if part == "child" else None, prefix="child")
    markup = MarkupForm(
        request.POST if part == "markup" else None,
        prefix="markup",
        initial={"percent": Decimal(price_list.markup_bps) / BPS},
    )
    if part == "child" and child.is_valid():
        made = reselling.create_child(
            parent=organization, name=child.cleaned_data["name"], by=request.user, origin=origin_of(request)
        )
        messages.success(request, f"Made {made.child.name}.")
        return redirect("billing:resale-customer", slug, made.child.slug)
    if part == "markup" and markup.is_valid():
        bps = int(markup.cleaned_data["percent"] * BPS)
        reselling.set_markup(parent=organization, markup_bps=bps, markups=price_list.markups, by=request.user)
        messages.success(request, "Saved. It counts from now on.")
        return redirect("billing:resale", slug)
    account = Account.objects.filter(organization=OuterRef("child"), kind=AccountKind.CUSTOMER)
    free = account.annotate(free=F("posted") + F("credit_limit") - F("unsettled") - F("held")).values("free")
    rows = organization.resales.select_related("child").annotate(available=Subquery(free)).order_by("child__name")
    context = {
        "organization": organization,
        "page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page")),
        "child": child,
        "markup": markup,
        "earned": reselling.earned(organization, timezone.now().date().replace(day=1)),
        "may_manage": can(request.membership, "billing.manage"),
    }
    return render(request, "billing/resale.html", context, status=422 if request.method == "POST" else 200)


@login_required
def customer(request: MemberRequest, slug: str, child: str) -> HttpResponse:
    """One customer's allowance and prices."""
    organization = _reseller(request, slug)
    found = get_object_or_404(organization.resales.select_related("child", "parent"), child__slug=child)
    own_list = reselling.price_list_of(organization)
    initial = {
        "credits": None if found.allowance_nanos is None else Decimal(found.allowance_nanos) / NANOS_PER_CREDIT,
        "pays_our_prices": price_lists.slug_of(found.child) == own_list.slug,
    }
    form = AllowanceForm(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        _set(request, found, form, initial)
        return redirect("billing:resale", slug)
    context = {"organization": organization, "resale": found, "form": form}
    return render(request, "billing/resale_customer.html", context, status=422 if request.method == "POST" else 200)


def _reseller(request: MemberRequest, slug: str) -> Organization:
    organization = organization_for(request, slug, Role.VIEWER)
    permit(request, "billing.view" if request.method == "GET" else "billing.manage")
    if not reselling.may_resell(organization):
        raise Http404
    return organization


def _set(request: MemberRequest, found: Resale, form: AllowanceForm, before: dict[str, object]) -> None:
    wanted = form.cleaned_data["credits"]
    if wanted != before["credits"]:
        nanos = None if wanted is None else int(wanted * NANOS_PER_CREDIT)
        reselling.set_allowance(found, nanos=nanos, by=request.user)
        reselling.pay_allowances()
    if form.cleaned_data["pays_our_prices"] != before["pays_our_prices"]:
        own = reselling.price_list_of(found.parent) if form.cleaned_data["pays_our_prices"] else None
        price_lists.assign(organization=found.child, price_list=own, by=request.user)
    messages.success(request, f"Saved {found.child.name}.")
