"""The console's key pages."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods

from accounts import keys
from accounts.access import can, organization_for
from accounts.forms import KeyForm, RotateForm
from accounts.models import ApiKey, Organization, Role

KEYS_PER_PAGE = 50


@require_GET
@login_required
def key_list(request: HttpRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.VIEWER)
    rows = organization.keys.order_by("-created_at", "-pk").fetch_mode(models.FETCH_RAISE)
    page = Paginator(rows, KEYS_PER_PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "accounts/key_list.html",
        {
            "organization": organization,
            "page": page,
            "keys": list(page),
            "may_manage": can(request.membership, "keys.manage"),
        },
    )


@never_cache
@sensitive_variables("issued")
@require_http_methods(["GET", "POST"])
@login_required
def key_create(request: HttpRequest, slug: str) -> HttpResponse:
    """The new key is in the answer to the POST and nowhere else: no redirect, no session."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    form = KeyForm(request.POST if request.method == "POST" else None)
    if not (request.method == "POST" and form.is_valid()):
        status = 422 if form.is_bound else 200
        return render(request, "accounts/key_create.html", {"organization": organization, "form": form}, status=status)
    fields = form.cleaned_data
    try:
        issued = keys.issue(
            organization=organization,
            name=fields["name"],
            by=request.user,
            scopes=fields["scopes"],
            allowed_models=fields["allowed_models"],
            allowed_endpoints=fields["allowed_endpoints"],
            allowed_ips=fields["allowed_ips"],
            rpm=fields["rpm"],
            tpm=fields["tpm"],
            expires_at=form.expires_at(),
            public_id=fields["token"],
        )
    except keys.AlreadyIssued as error:
        return render(request, "accounts/key_repeated.html", {"organization": organization, "key": error.key})
    return _shown_once(request, organization, issued)


@require_http_methods(["GET", "POST"])
@login_required
def key_revoke(request: HttpRequest, slug: str, key_id: UUID) -> HttpResponse:
    organization = organization_for(request, slug, Role.DEVELOPER)
    key = get_object_or_404(organization.keys, public_id=key_id)
    if request.method == "POST":
        keys.revoke(key=key, by=request.user)
        messages.success(request, f"Revoked “{key.name}”.")
        return redirect("accounts:key-list", slug)
    template = "accounts/key_revoke.html#confirm" if request.htmx else "accounts/key_revoke.html"
    response = render(request, template, {"organization": organization, "key": key})
    patch_vary_headers(response, ["HX-Request"])
    return response


@never_cache
@sensitive_variables("issued")
@require_http_methods(["GET", "POST"])
@login_required
def key_rotate(request: HttpRequest, slug: str, key_id: UUID) -> HttpResponse:
    """Like `key_create`, the new key is in the answer to the POST and nowhere else."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    key = get_object_or_404(organization.keys, public_id=key_id)
    form = RotateForm(request.POST if request.method == "POST" else None)
    if not (request.method == "POST" and form.is_valid()):
        status = 422 if form.is_bound else 200
        context = {"organization": organization, "key": key, "form": form}
        return render(request, "accounts/key_rotate.html", context, status=status)
    issued = keys.rotate(key=key, by=request.user, grace=form.grace_period())
    return _shown_once(request, organization, issued, replaced=key)


def _shown_once(
    request: HttpRequest, organization: Organization, issued: keys.Issued, replaced: ApiKey | None = None
) -> HttpResponse:
    context = {"organization": organization, "key": issued.key, "secret": issued.secret, "replaced": replaced}
    return render(request, "accounts/key_created.html", context, status=201)
