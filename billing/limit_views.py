"""The limits of an organization: its budgets, the default rates of its keys, the defaults of its end users."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts import organizations
from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Organization, Role
from billing import budgets, end_users, money, standings
from billing.backtest import BackTest, back_test
from billing.budget_views import PERIODS, initial_of, use_of
from billing.forms import CapsForm, RatesForm
from billing.models import Budget
from billing.templatetags.money import credits_short

SCOPES = {"organization": Budget.Scope.ORGANIZATION, "end_user": Budget.Scope.END_USER}


@dataclass(frozen=True, slots=True)
class Preview:
    """What a proposed cap would have done."""

    label: str
    found: BackTest


@require_http_methods(["GET", "POST"])
@login_required
def limits(request: MemberRequest, slug: str) -> HttpResponse:
    """Three forms; `part` says which was sent, `preview` that it is to be tested and not saved."""
    organization = organization_for(request, slug, Role.ADMIN if request.method == "POST" else Role.VIEWER)
    part = request.POST.get("part", "")
    caps = standings.caps_of(organization)
    forms = {
        "organization": CapsForm(
            request.POST if part == "organization" else None, initial=initial_of(caps), prefix="organization"
        ),
        "rates": RatesForm(
            request.POST if part == "rates" else None,
            initial={
                "rpm": organization.default_rpm,
                "tpm": organization.default_tpm,
                "max_rpm": organization.max_rpm,
                "max_tpm": organization.max_tpm,
                "max_concurrent": organization.max_concurrent,
            },
            prefix="rates",
        ),
        "end_user": CapsForm(
            request.POST if part == "end_user" else None, initial=_defaults(organization), prefix="end_user"
        ),
    }
    form = forms.get(part)
    previews: list[Preview] = []
    is_wrong = request.method == "POST" and (form is None or not form.is_valid())
    if request.method == "POST" and form is not None and not is_wrong:
        if "preview" in request.POST and isinstance(form, CapsForm):
            previews = _previews(organization, part, form)
        else:
            _save(request, organization, part, form)
            messages.success(request, "Saved.")
            return redirect("billing:limits", slug)
    context = {
        "organization": organization,
        "forms": forms,
        "usages": [use_of(cap) for cap in caps],
        "part": part,
        "previews": previews,
        "may_manage": can(request.membership, "budgets.manage"),
        "default_rpm": settings.DEFAULT_RPM,
    }
    return render(request, "billing/limits.html", context, status=422 if is_wrong else 200)


def _defaults(organization: Organization) -> dict[str, Any]:
    rows = end_users.defaults_of(organization)
    initial: dict[str, Any] = {"observes": any(row.observes for row in rows.values())}
    for period, row in rows.items():
        if row.cost_cap_nanos is not None:
            initial[f"cost_{period}"] = money.format_credits(row.cost_cap_nanos)
        initial[f"tokens_{period}"] = row.token_cap
    return initial


def _save(request: MemberRequest, organization: Organization, part: str, form: Any) -> None:
    who = {"by": request.user, "origin": origin_of(request)}
    if part == "rates":
        rates = form.cleaned_data
        organizations.set_rates(organization=organization, **rates, **who)
        return
    for period in PERIODS:
        if part == "organization":
            budgets.set_budget(organization=organization, scope=SCOPES[part], **form.caps(period), **who)
        else:
            end_users.set_default(organization=organization, **form.caps(period), **who)


def _previews(organization: Organization, part: str, form: CapsForm) -> list[Preview]:
    """The last 30 days against each cap of the form by itself."""
    previews = []
    for period in PERIODS:
        given = form.caps(period)
        for unit, label in (("cost_cap_nanos", "credits"), ("token_cap", "tokens")):
            cap = given[unit]
            if cap is None:
                continue
            caps = {"cost_cap_nanos": None, "token_cap": None} | {unit: cap}
            found = back_test(organization, scope=SCOPES[part], period=period, **caps)
            shown = credits_short(cap) if label == "credits" else f"{cap:,}"
            previews.append(Preview(f"{shown} {label} per {period}", found))
    return previews
