"""One request of the log, and the budgets of a key."""

from dataclasses import dataclass
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.sessions.backends.base import SessionBase
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Organization, Role
from billing import budgets, money, rates, receipts, transcripts, usage
from billing.forms import BudgetsForm
from billing.models import Budget, UsageRecord
from billing.templatetags.money import credits_short

LOOKED_AT = "looked_at_requests_of"
ENDINGS = {
    "completed": "The whole answer was delivered.",
    "client_closed": "The client left before the end; what the model produced until then was charged.",
    "upstream_cut": "The provider cut the answer off; what had arrived was charged.",
    "upstream_error": "The provider failed before it answered. Nothing was charged.",
    "timeout": "The provider took too long.",
    "rejected": "The provider refused the request. Nothing was charged.",
    "refused": "Refused before it was sent. Nothing was charged.",
    "interrupted": "The server that relayed it stopped; what had streamed until the last checkpoint was charged.",
}
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


def has_looked(session: SessionBase, organization: Organization) -> bool:
    """Whether this reader has opened a request of `organization` since they signed in."""
    return organization.pk in session.get(LOOKED_AT, [])


@require_safe
@login_required
def request_detail(request: MemberRequest, slug: str, request_id: UUID) -> HttpResponse:
    organization = organization_for(request, slug, Role.VIEWER)
    record = usage.one(organization, request_id)
    if record is None:
        raise Http404("no such request")
    if not has_looked(request.session, organization):
        request.session[LOOKED_AT] = [*request.session.get(LOOKED_AT, []), organization.pk]
    may_read = can(request.membership, "requests.read")
    try:
        rate = rates.rate_of(record.price_version)
    except rates.NoSuchPrice:
        rate = None
    context = {
        "organization": organization,
        "record": record,
        "total_tokens": record.input_tokens + record.output_tokens,
        "tokens": _tokens_by_kind(record),
        "receipt": receipts.receipt_of(record, rate) if rate else None,
        "how_it_ended": ENDINGS.get(record.outcome, record.outcome),
        "shows_upstream_cost": request.user.is_staff,
        "may_read": may_read,
        "has_words": may_read and transcripts.has(record),
    }
    return render(request, "billing/request_detail.html", context)


@require_http_methods(["GET", "POST"])
@login_required
def key_budgets(request: MemberRequest, slug: str, key_id: UUID) -> HttpResponse:
    role = Role.ADMIN if request.method == "POST" else Role.VIEWER
    organization = organization_for(request, slug, role)
    key = get_object_or_404(organization.keys, public_id=key_id)
    current = list(budgets.of_key(key))
    form = BudgetsForm(request.POST if request.method == "POST" else None, initial=_initial(current))
    if request.method == "POST" and form.is_valid():
        for period in (Budget.Period.DAY, Budget.Period.MONTH):
            budgets.set_for_key(key=key, **form.caps(period), by=request.user, origin=origin_of(request))
        messages.success(request, f"Saved the budgets of “{key.name}”.")
        return redirect("billing:key-budgets", slug, key_id)
    context = {
        "organization": organization,
        "key": key,
        "form": form,
        "usages": [use for budget in current for use in _uses(budget)],
        "may_manage": can(request.membership, "budgets.manage"),
    }
    return render(request, "billing/key_budgets.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "POST"])
@login_required
def member_budgets(request: MemberRequest, slug: str, member_id: UUID) -> HttpResponse:
    """What all keys of one member may use together."""
    organization = organization_for(request, slug, Role.ADMIN)
    member = get_object_or_404(organization.memberships.select_related("user"), public_id=member_id).user
    current = list(budgets.of_member(organization, member))
    form = BudgetsForm(request.POST if request.method == "POST" else None, initial=_initial(current))
    if request.method == "POST" and form.is_valid():
        for period in (Budget.Period.DAY, Budget.Period.MONTH):
            budgets.set_budget(
                organization=organization,
                scope=Budget.Scope.MEMBER,
                member=member,
                **form.caps(period),
                by=request.user,
                origin=origin_of(request),
            )
        messages.success(request, f"Saved the limits of {member.email}.")
        return redirect("billing:member-budgets", slug, member_id)
    context = {
        "organization": organization,
        "member": member,
        "form": form,
        "usages": [use for budget in current for use in _uses(budget)],
    }
    return render(request, "billing/member_budgets.html", context, status=422 if form.is_bound else 200)


def _tokens_by_kind(record: UsageRecord) -> list[tuple[str, int]]:
    """Every kind that was counted. Indented kinds are part of the total above them."""
    rows = [("Input", record.input_tokens)]
    rows += [
        (label, count)
        for label, count in (
            ("– read from cache", record.cached_tokens),
            ("– written to cache", record.cache_write_tokens),
            ("– audio in", record.audio_input_tokens),
            ("– image in", record.image_input_tokens),
        )
        if count
    ]
    rows.append(("Output", record.output_tokens))
    rows += [
        (label, count)
        for label, count in (
            ("– reasoning", record.reasoning_tokens),
            ("– audio out", record.audio_output_tokens),
            ("– image out", record.image_output_tokens),
        )
        if count
    ]
    return rows + [(meter.replace("_", " ").capitalize(), count) for meter, count in record.units.items()]


def _initial(current: list[Budget]) -> dict[str, str | int | None]:
    initial: dict[str, str | int | None] = {}
    for budget in current:
        if budget.cost_cap_nanos is not None:
            initial[f"cost_{budget.period}"] = money.format_credits(budget.cost_cap_nanos)
        initial[f"tokens_{budget.period}"] = budget.token_cap
    return initial


def _uses(budget: Budget) -> list[BudgetUse]:
    uses = []
    if budget.cost_cap_nanos is not None:
        used, held, cap = budget.used_cost_nanos, budget.held_cost_nanos, budget.cost_cap_nanos
        uses.append(
            BudgetUse(
                label=f"Credits per {budget.period}",
                used=credits_short(used),
                held=f"{credits_short(held)} credits" if held else "",
                cap=credits_short(cap),
                percent=percent_of(used + held, cap),
            )
        )
    if budget.token_cap is not None:
        used, held, cap = budget.used_tokens, budget.held_tokens, budget.token_cap
        uses.append(
            BudgetUse(
                label=f"Tokens per {budget.period}",
                used=f"{used:,}",
                held=f"{held:,} tokens" if held else "",
                cap=f"{cap:,}",
                percent=percent_of(used + held, cap),
            )
        )
    return uses


def percent_of(part: int, whole: int) -> int:
    """How much of `whole` `part` is; at most 100."""
    return min(100, part * 100 // whole) if whole > 0 else 100
