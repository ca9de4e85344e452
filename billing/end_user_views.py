"""The tenant's own end users: what they use, and blocking them."""

from dataclasses import dataclass

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_GET, require_http_methods

from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Role
from billing import blocks, end_user_usage, standings
from billing.budget_views import BudgetUse, end_user_of, use_of
from billing.end_user_usage import EndUserUsage
from billing.forms import BlockForm
from billing.models import EndUserBlock

PAGE_SIZE = 50
MAX_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """One end user of the list."""

    usage: EndUserUsage
    block: EndUserBlock | None
    budgets: list[BudgetUse]
    follows_default: bool


@require_GET
@login_required
def end_user_list(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.VIEWER)
    search = request.GET.get("q", "").replace("\0", "")[: blocks.MAX_END_USER]
    number = _page(request.GET.get("page", ""))
    found = end_user_usage.page(organization, search=search, limit=PAGE_SIZE + 1, offset=(number - 1) * PAGE_SIZE)
    shown = found[:PAGE_SIZE]
    names = [each.end_user for each in shown]
    blocked = {block.end_user: block for block in blocks.active(organization).filter(end_user__in=names)}
    caps = standings.caps_of_end_users(organization, names)
    rows = [
        Row(
            usage,
            blocked.get(usage.end_user),
            [use_of(cap) for cap in caps.get(usage.end_user, [])],
            any(cap.follows_default for cap in caps.get(usage.end_user, [])),
        )
        for usage in shown
    ]
    context = {
        "organization": organization,
        "rows": rows,
        "search": search,
        "number": number,
        "previous": number - 1 if number > 1 else None,
        "next": number + 1 if len(found) > PAGE_SIZE else None,
        "may_manage": can(request.membership, "budgets.manage"),
    }
    template = "billing/end_user_list.html#rows" if request.htmx else "billing/end_user_list.html"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_http_methods(["GET", "POST"])
@login_required
def end_user_block(request: MemberRequest, slug: str) -> HttpResponse:
    """Asks for the reason first; blocks on POST."""
    organization = organization_for(request, slug, Role.ADMIN)
    who = request.GET.get("who", "")
    form = BlockForm(request.POST if request.method == "POST" else None, initial={"end_user": who})
    if request.method == "POST" and form.is_valid():
        fields = form.cleaned_data
        try:
            blocks.block(
                organization=organization,
                end_user=fields["end_user"],
                reason=fields["reason"],
                expires_at=form.expires_at(),
                by=request.user,
                origin=origin_of(request),
            )
        except blocks.InvalidBlock as error:
            form.add_error(error.field if error.field in form.fields else None, "This value is not allowed.")
        else:
            messages.success(request, f"Blocked “{fields['end_user']}”.")
            return redirect("billing:end-user-list", slug)
    context = {"organization": organization, "form": form, "who": who}
    return render(request, "billing/end_user_block.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "POST"])
@login_required
def end_user_unblock(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.ADMIN)
    who = end_user_of(request)
    if request.method == "POST":
        blocks.unblock(organization=organization, end_user=who, by=request.user, origin=origin_of(request))
        messages.success(request, f"Unblocked “{who}”.")
        return redirect("billing:end-user-list", slug)
    template = "billing/end_user_unblock.html#confirm" if request.htmx else "billing/end_user_unblock.html"
    context = {"organization": organization, "who": who, "block": blocks.find(organization, who)}
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _page(text: str) -> int:
    return min(int(text), MAX_PAGE) if text.isascii() and text.isdigit() and int(text[:9]) > 0 else 1
