"""Making an organization, its settings, exporting and deleting it."""

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import audit, closing, exports, organizations
from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Membership, OrganizationExport, Role
from accounts.team_forms import OrganizationForm, TypedForm

MAX_OWNED = 20
EXPORTS_SHOWN = 10


@require_http_methods(["GET", "POST"])
@login_required
def organization_create(request: HttpRequest) -> HttpResponse:
    form = OrganizationForm(request.POST if request.method == "POST" else None, initial={"timezone": "UTC"})
    if request.method == "POST" and form.is_valid():
        if Membership.objects.filter(user=request.user, role=Role.OWNER).count() < MAX_OWNED:
            made = organizations.create(owner=request.user, origin=origin_of(request), **form.cleaned_data)  # type: ignore[arg-type]
            messages.success(request, f"Made “{made.name}”. Invite the others.")
            return redirect("accounts:team", made.slug)
        form.add_error(None, f"You own {MAX_OWNED} organizations; more need the operator's help.")
    return render(request, "accounts/organization_create.html", {"form": form}, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "POST"])
@login_required
def organization_settings(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.ADMIN if request.method == "POST" else Role.VIEWER)
    initial = {"name": organization.name, "timezone": organization.timezone}
    form = OrganizationForm(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        organizations.change(organization=organization, by=request.user, origin=origin_of(request), **form.cleaned_data)
        messages.success(request, "Saved.")
        return redirect("accounts:organization-settings", slug)
    context = {
        "organization": organization,
        "form": form,
        "may_manage": can(request.membership, "organization.manage"),
        "may_export": can(request.membership, "organization.export"),
        "may_delete": can(request.membership, "organization.delete"),
        "owner": organization.memberships.select_related("user").filter(role=Role.OWNER).first(),
    }
    return render(request, "accounts/organization_settings.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "POST"])
@login_required
def export_list(request: MemberRequest, slug: str) -> HttpResponse:
    """The exports; POST asks for one. While one is being made, its progress is asked for again and again."""
    organization = organization_for(request, slug, Role.ADMIN, while_closing=True)
    if request.method == "POST":
        exports.request(organization=organization, by=request.user, origin=origin_of(request))
        return redirect("accounts:export-list", slug)
    rows = list(organization.exports.select_related("requested_by").order_by("-pk")[:EXPORTS_SHOWN])
    context = {
        "organization": organization,
        "exports": rows,
        "is_under_way": any(row.is_under_way for row in rows),
        "kept_days": exports.KEPT_FOR.days,
    }
    template = "accounts/export_list.html#rows" if request.htmx else "accounts/export_list.html"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@never_cache
@require_safe
@login_required
def export_download(request: MemberRequest, slug: str, export_id: UUID) -> FileResponse:
    """Staff who look as a member take nothing along: the audit log would say that it was the member."""
    organization = organization_for(request, slug, Role.ADMIN)
    if getattr(request, "impersonation", None) is not None:
        raise PermissionDenied
    export = get_object_or_404(organization.exports, public_id=export_id, state=OrganizationExport.State.DONE)
    try:
        file = default_storage.open(export.name)
    except FileNotFoundError:
        raise Http404 from None
    audit.record(
        action="organization.export_download", target=export, organization=organization, by=request.user,
        origin=origin_of(request),
    )  # fmt: skip
    name = f"{organization.slug}-{export.created_at:%Y-%m-%d}.zip"
    return FileResponse(file, as_attachment=True, filename=name, content_type="application/zip")


@require_http_methods(["GET", "POST"])
@login_required
def organization_delete(request: MemberRequest, slug: str) -> HttpResponse:
    """Asks for the name, begins the grace period and shows the export that was made first."""
    organization = organization_for(request, slug, Role.OWNER)
    form = TypedForm(request.POST if request.method == "POST" else None, organization=organization)
    if request.method == "POST" and form.is_valid():
        try:
            closing.close(organization=organization, by=request.user, origin=origin_of(request))
        except closing.NotPossible:
            form.add_error(None, "Only an organization that is active can be deleted. Ask the operator.")
        else:
            messages.warning(request, f"“{organization.name}” is being deleted. You can still restore it.")
            return redirect("accounts:export-list", slug)
    context = {
        "organization": organization,
        "form": form,
        "grace_days": settings.ORGANIZATION_GRACE_DAYS,
        "live_keys": organization.keys.live().count(),
        "others": organization.memberships.count() - 1,
        "latest": organization.exports.filter(state=OrganizationExport.State.DONE).last(),
    }
    return render(request, "accounts/organization_delete.html", context, status=422 if form.is_bound else 200)


@require_POST
@login_required
def organization_restore(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.OWNER, while_closing=True)
    try:
        closing.restore(organization=organization, by=request.user, origin=origin_of(request))
    except closing.NotPossible:
        messages.info(request, "It is not being deleted.")
    else:
        messages.success(request, f"“{organization.name}” is restored; its keys work again.")
    return redirect("accounts:organization-settings", slug)
