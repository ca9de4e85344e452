"""The audit log of an organization."""

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts import audit_log
from accounts.access import MemberRequest, organization_for
from accounts.models import Organization, Role
from accounts.team_forms import AuditFilterForm

PAGE_SIZE = 50


@require_safe
@login_required
def audit_page(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.ADMIN)
    form, which = _filter(request, organization)
    before = request.GET.get("before", "")
    rows = audit_log.entries(organization, which)
    if before.isascii() and before.isdigit() and len(before) < 19:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows[: PAGE_SIZE + 1])
    context = {
        "organization": organization,
        "form": form,
        "entries": found[:PAGE_SIZE],
        "older": found[PAGE_SIZE - 1].pk if len(found) > PAGE_SIZE else None,
        "is_first": not before,
        "is_filtered": which != audit_log.Filter(),
    }
    template = "accounts/audit.html#rows" if request.htmx else "accounts/audit.html"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@never_cache
@require_safe
@login_required
def audit_csv(request: MemberRequest, slug: str) -> HttpResponse:
    """What the same filters show, at most `MAX_CSV_ROWS`; the export of the organization has everything."""
    organization = organization_for(request, slug, Role.ADMIN)
    _, which = _filter(request, organization)
    text = audit_log.as_csv(audit_log.entries(organization, which)[: audit_log.MAX_CSV_ROWS])
    headers = {"Content-Disposition": f'attachment; filename="audit-{organization.slug}.csv"'}
    return HttpResponse(text, content_type="text/csv; charset=utf-8", headers=headers)


def _filter(request: MemberRequest, organization: Organization) -> tuple[AuditFilterForm, audit_log.Filter]:
    form = AuditFilterForm(
        request.GET or None, actors=audit_log.actors(organization), actions=audit_log.actions(organization)
    )
    form.full_clean()
    given = getattr(form, "cleaned_data", {})
    which = audit_log.Filter(
        actor=given.get("actor", ""),
        action=given.get("action", ""),
        first_day=given.get("first_day"),
        last_day=given.get("last_day"),
    )
    return form, which
