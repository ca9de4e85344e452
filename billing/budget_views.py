"""The budgets of a key, of a member, of an end user: one page each, of one shape."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Role
from billing import blocks, budgets, money, standings
from billing.forms import BudgetsForm, CapsForm
from billing.models import Budget
from billing.standings import Cap
from billing.templatetags.money import credits_short

PERIODS = (Budget.Period.DAY, Budget.Period.MONTH)
WARN_PERCENT, FULL_PERCENT = 80, 95


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """One cap of a budget and how much of it is used, in words and per cent."""

    label: str
    used: str
    held: str
    cap: str
    percent: int

    @property
    def tone(self) -> str:
        return "bad" if self.percent >= FULL_PERCENT else "warn" if self.percent >= WARN_PERCENT else ""


@require_http_methods(["GET", "POST"])
@login_required
def key_budgets(request: MemberRequest, slug: str, key_id: UUID) -> HttpResponse:
    organization = organization_for(request, slug, Role.ADMIN if request.method == "POST" else Role.VIEWER)
    key = get_object_or_404(organization.keys, public_id=key_id)
    caps = standings.caps_of_keys(organization, [key]).get(key.pk, [])
    form = BudgetsForm(request.POST if request.method == "POST" else None, initial=initial_of(caps))
    save = partial(budgets.set_for_key, key=key)
    return _answer(request, "key", {"key": key}, form=form, caps=caps, save=save, whose=f"“{key.name}”")


@require_http_methods(["GET", "POST"])
@login_required
def member_budgets(request: MemberRequest, slug: str, member_id: UUID) -> HttpResponse:
    """What all keys of one member may use together."""
    organization = organization_for(request, slug, Role.ADMIN)
    member = get_object_or_404(organization.memberships.select_related("user"), public_id=member_id).user
    caps = standings.caps_of_member(organization, member)
    form = BudgetsForm(request.POST if request.method == "POST" else None, initial=initial_of(caps))
    save = partial(budgets.set_budget, organization=organization, scope=Budget.Scope.MEMBER, member=member)
    return _answer(request, "member", {"member": member}, form=form, caps=caps, save=save, whose=member.email)


@require_http_methods(["GET", "POST"])
@login_required
def end_user_budgets(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.ADMIN if request.method == "POST" else Role.VIEWER)
    who = end_user_of(request)
    caps = standings.caps_of_end_users(organization, [who]).get(who, [])
    own = [cap for cap in caps if not cap.follows_default]
    form = CapsForm(request.POST if request.method == "POST" else None, initial=initial_of(own))
    save = partial(budgets.set_budget, organization=organization, scope=Budget.Scope.END_USER, end_user=who)
    context = {"who": who, "follows_default": bool(caps) and not own}
    return _answer(request, "end_user", context, form=form, caps=caps, save=save, whose=f"“{who}”")


def _answer(
    request: MemberRequest,
    what: str,
    context: dict[str, Any],
    *,
    form: BudgetsForm,
    caps: list[Cap],
    save: Callable[..., object],
    whose: str,
) -> HttpResponse:
    """The page with what of `caps` is used; or, once the valid form is saved for each period, the way back to it."""
    if form.is_bound and form.is_valid():
        for period in PERIODS:
            save(by=request.user, origin=origin_of(request), **form.caps(period))
        messages.success(request, f"Saved the budgets of {whose}.")
        return redirect(request.get_full_path())
    context |= {
        "organization": request.organization,
        "form": form,
        "usages": [use_of(cap) for cap in caps],
        "may_manage": can(request.membership, "budgets.manage"),
    }
    return render(request, f"billing/{what}_budgets.html", context, status=422 if form.is_bound else 200)


def end_user_of(request: MemberRequest) -> str:
    """The end user in the address: any text, so not part of the path."""
    who = request.GET.get("who", "")
    if not who or len(who) > blocks.MAX_END_USER or "\0" in who:
        raise Http404("no such end user")
    return who


def initial_of(caps: list[Cap]) -> dict[str, Any]:
    """The caps as a `CapsForm` shows them."""
    initial: dict[str, Any] = {"observes": any(cap.observes for cap in caps)}
    for cap in caps:
        if cap.unit == "cost":
            initial[f"cost_{cap.period}"] = money.format_credits(cap.cap)
        else:
            initial[f"tokens_{cap.period}"] = cap.cap
    return initial


def use_of(cap: Cap) -> BudgetUse:
    """A cap and how much of it is used, in words and per cent."""
    is_cost = cap.unit == "cost"

    def shown(value: int) -> str:
        return credits_short(value) if is_cost else f"{value:,}"

    label = f"{'Credits' if is_cost else 'Tokens'} per {cap.period}"
    return BudgetUse(
        label=f"{label}, observed" if cap.observes else label,
        used=shown(cap.used),
        held=f"{shown(cap.held)} {'credits' if is_cost else 'tokens'}" if cap.held else "",
        cap=shown(cap.cap),
        percent=min(100, (cap.used + cap.held) * 100 // cap.cap) if cap.cap > 0 else 100,
    )
