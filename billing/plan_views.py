"""The plan of an organization, and buying packs by itself."""

from decimal import Decimal

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Organization, Role
from billing import stripe_api, stripe_plans, subscriptions
from billing import top_up as top_ups
from billing.models import BillingProfile, Pack, Plan, Subscription
from billing.money import NANOS_PER_CREDIT
from billing.payment_views import permit
from billing.purchases import PaymentMismatch
from billing.templatetags.money import cents

CENTS = 100


class PackChoice(forms.ModelChoiceField):
    def label_from_instance(self, obj: Pack) -> str:
        return f"{obj.name}: {obj.total_credits:,} credits for {cents(obj.price_cents, obj.currency)}"


class TopUpForm(forms.Form):
    pack = PackChoice(Pack.objects.filter(is_active=True), label="Buy", to_field_name="slug", empty_label=None)
    below = forms.DecimalField(
        label="When fewer are left than", min_value=Decimal(1), max_digits=14, decimal_places=4, help_text="Credits."
    )
    cap = forms.DecimalField(
        label="At most in a month",
        min_value=Decimal(1),
        max_value=Decimal(1_000_000),
        decimal_places=2,
        help_text="US dollars, before taxes. No more is bought by itself until the next month (UTC).",
    )


@require_safe
@login_required
def plan(request: MemberRequest, slug: str) -> HttpResponse:
    """The plan that is paid for, or those that can be."""
    organization = _organization(request, slug, "billing.view")
    context = {
        "organization": organization,
        "subscription": subscriptions.current(organization),
        "plans": Plan.objects.filter(is_active=True) if stripe_api.is_on() else [],
        "may_manage": can(request.membership, "billing.manage"),
    }
    return render(request, "billing/plan.html", context)


@require_POST
@login_required
def subscribe(request: MemberRequest, slug: str) -> HttpResponse:
    """A subscription that waits for its payment, and Stripe's page to pay it."""
    organization = _organization(request, slug, "billing.manage")
    wanted = get_object_or_404(Plan, slug=request.POST.get("plan", ""), is_active=True)
    try:
        if not stripe_api.is_on():
            raise stripe_api.PaymentsOff("Payments are not set up here.")
        made = subscriptions.begin(organization=organization, plan=wanted, by=request.user, origin=origin_of(request))
        return HttpResponseRedirect(stripe_api.subscribe(made))
    except subscriptions.AlreadySubscribed:
        messages.error(request, "You have a plan already. Cancel it first; what is paid for stays yours.")
    except stripe_api.StripeUnavailable as error:
        messages.error(request, str(error))
    return redirect("billing:plan", slug)


@require_safe
@login_required
def subscribed(request: MemberRequest, slug: str) -> HttpResponse:
    """Back from Stripe: the subscription as Stripe has it now, whether or not its events were here."""
    organization = _organization(request, slug, "billing.view")
    rows = organization.subscriptions.select_related("plan")
    found = get_object_or_404(rows, checkout_session_id=request.GET.get("session_id", ""))
    if not found.orders.exists():
        try:
            stripe_plans.pull(found)
        except (stripe_api.StripeUnavailable, PaymentMismatch):
            messages.warning(request, "The payment provider does not answer yet. Your credit arrives by itself.")
        found.refresh_from_db()
    if found.status in Subscription.LIVE:
        messages.success(request, f"You are on the {found.plan.name} plan.")
    return redirect("billing:plan", slug)


@login_required
def cancel(request: MemberRequest, slug: str) -> HttpResponse:
    """Ask, then let the plan end with its paid month."""
    organization = _organization(request, slug, "billing.manage")
    found = subscriptions.current(organization)
    if found is None:
        raise Http404
    if request.method != "POST":
        return render(request, "billing/plan_cancel.html", {"organization": organization, "subscription": found})
    return _set_end(request, found, is_to_end=True)


@require_POST
@login_required
def resume(request: MemberRequest, slug: str) -> HttpResponse:
    """Let a plan go on that was to end."""
    found = subscriptions.current(_organization(request, slug, "billing.manage"))
    if found is None:
        raise Http404
    return _set_end(request, found, is_to_end=False)


@login_required
def top_up(request: MemberRequest, slug: str) -> HttpResponse:
    """The rule by which packs are bought with the saved card."""
    organization = _organization(request, slug, "billing.view" if request.method == "GET" else "billing.manage")
    profile = BillingProfile.objects.filter(organization=organization).select_related("top_up_pack").first()
    form = TopUpForm(request.POST if request.method == "POST" else None, initial=_rule(profile))
    if request.method == "POST" and "stop" in request.POST:
        top_ups.stop(organization=organization, by=request.user, origin=origin_of(request))
        messages.success(request, "Nothing is bought by itself any more.")
        return redirect("billing:billing", slug)
    if request.method == "POST" and form.is_valid() and _set_rule(request, organization, form):
        messages.success(request, "Saved. Credit is bought by itself from now on.")
        return redirect("billing:billing", slug)
    context = {
        "organization": organization,
        "form": form,
        "profile": profile,
        "spent_cents": top_ups.spent_this_month(organization),
        "is_selling": stripe_api.is_on(),
        "may_manage": can(request.membership, "billing.manage"),
    }
    return render(request, "billing/top_up.html", context, status=422 if request.method == "POST" else 200)


def _organization(request: MemberRequest, slug: str, permission: str) -> Organization:
    organization = organization_for(request, slug, Role.VIEWER)
    if settings.IS_SELF_HOSTED:
        raise Http404
    permit(request, permission)
    return organization


def _set_end(request: MemberRequest, found: Subscription, *, is_to_end: bool) -> HttpResponse:
    try:
        stripe_api.set_cancel_at_period_end(found, is_to_end=is_to_end)
        stripe_plans.pull(found)
    except stripe_api.StripeUnavailable as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "The plan ends with its month." if is_to_end else "The plan goes on.")
    return redirect("billing:plan", request.organization.slug)


def _rule(profile: BillingProfile | None) -> dict[str, object]:
    if profile is None or profile.top_up_pack is None:
        return {"pack": "popular", "below": 200, "cap": 100}
    return {
        "pack": profile.top_up_pack.slug,
        "below": Decimal(profile.top_up_below_nanos) / NANOS_PER_CREDIT,
        "cap": Decimal(profile.top_up_cap_cents) / CENTS,
    }


def _set_rule(request: MemberRequest, organization: Organization, form: TopUpForm) -> bool:
    try:
        top_ups.set_rule(
            organization=organization,
            pack=form.cleaned_data["pack"],
            below_nanos=int(form.cleaned_data["below"] * NANOS_PER_CREDIT),
            cap_cents=int(form.cleaned_data["cap"] * CENTS),
            by=request.user,
            origin=origin_of(request),
        )
    except top_ups.CapTooLow:
        form.add_error("cap", "This does not pay for the pack once. Raise it, or choose a smaller pack.")
    except top_ups.NoCard:
        form.add_error(None, "There is no saved card. Add one under “Invoices and cards”, or buy a pack first.")
    except stripe_api.StripeUnavailable as error:
        form.add_error(None, str(error))
    else:
        return True
    return False
