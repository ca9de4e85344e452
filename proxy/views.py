"""The landing page and the overview of an organization: the pages that know of everything below them."""

from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_safe

from accounts import organizations
from accounts.access import MemberRequest, can, organization_for
from accounts.models import Organization, Role
from billing import ledger, usage
from billing.models import UsageRecord
from billing.views import has_looked
from proxy.models import Model

LAST_ORGANIZATION = "last_organization"
SUCCESS = "completed"
POLL_WAITING_S = 2
POLL_IDLE_S = 15


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """What a new organization has done so far. `failed` is the newest request while none has succeeded yet."""

    has_credit: bool
    has_key: bool
    has_success: bool
    has_looked: bool
    failed: UsageRecord | None = None

    @property
    def done(self) -> int:
        return sum((self.has_credit, self.has_key, self.has_success, self.has_looked))

    @property
    def is_done(self) -> bool:
        return self.has_key and self.has_success and self.has_looked


@require_safe
def landing(request: HttpRequest) -> HttpResponse:
    return render(request, "proxy/landing.html", {"snippet_model": Model.objects.for_first_request()})


@require_safe
@login_required
def console(request: HttpRequest) -> HttpResponse:
    return redirect("proxy:overview", current_organization(request).slug)


def current_organization(request: HttpRequest) -> Organization:
    """The organization that the user looked at last, else the personal one, else any."""
    mine = request.user.organizations
    last: Organization | None = mine.filter(slug=request.session.get(LAST_ORGANIZATION, "")).first()
    return last or mine.order_by("-is_personal", "pk").first() or organizations.personal_of(request.user)


@require_safe
@login_required
def overview(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.VIEWER)
    if request.session.get(LAST_ORGANIZATION) != slug:
        request.session[LAST_ORGANIZATION] = slug
    recent = usage.recent(organization)
    balance = ledger.balance_of(organization)
    has_success = any(record.outcome == SUCCESS for record in recent) or len(recent) == usage.RECENT_SIZE
    steps = FirstSteps(
        has_credit=settings.IS_SELF_HOSTED or balance.available > 0 or has_success,
        has_key=organization.keys.exists(),
        has_success=has_success,
        has_looked=has_success and (len(recent) == usage.RECENT_SIZE or has_looked(request.session, organization)),
        failed=recent[0] if recent and not has_success else None,
    )
    context = {
        "organization": organization,
        "balance": balance,
        "today": usage.today(organization),
        "recent": recent,
        "steps": steps,
        "poll_s": POLL_WAITING_S if not steps.has_success else POLL_IDLE_S,
        "is_frozen": organization.status == Organization.Status.FROZEN,
        "has_credits": not settings.IS_SELF_HOSTED,
        "may_buy": can(request.membership, "billing.manage"),
        "may_manage_keys": can(request.membership, "keys.manage"),
        "snippet_model": Model.objects.for_first_request(),
    }
    response = render(request, "proxy/overview.html#live" if request.htmx else "proxy/overview.html", context)
    patch_vary_headers(response, ["HX-Request"])
    return response
