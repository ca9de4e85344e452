"""The console's key pages."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import IntegrityError, models
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods

from accounts import keys
from accounts.access import MemberRequest, can, may_change, organization_for, origin_of
from accounts.forms import KeyChangeForm, KeyForm, RotateForm
from accounts.models import ApiKey, Organization, Role

KEYS_PER_PAGE = 50
ENDED = "This key has ended, so it cannot be changed. Create a new one."
NOT_THEIRS = "Developers edit the keys that they made, admins and the owner all. Ask one of them, or create a key."
ENDED_FOR_GOOD = "This key has ended, so it cannot be rotated. Create a new one."
FOR_STAFF = "Only staff can rotate a key with the scope admin. Revoke it if it must stop."
STALE_FORM = "This form is out of date. Reload the page and fill it in again."


@require_GET
@login_required
def key_list(request: MemberRequest, slug: str) -> HttpResponse:
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
            "changeable": [key for key in page if may_change(request.membership, key)],
            "may_manage": can(request.membership, "keys.manage"),
        },
    )


@never_cache
@sensitive_variables("issued")
@require_http_methods(["GET", "POST"])
@login_required
def key_create(request: MemberRequest, slug: str) -> HttpResponse:
    """The new key is in the answer to the POST and nowhere else: no redirect, no session."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    form = KeyForm(request.POST if request.method == "POST" else None, is_staff=request.user.is_staff)
    context = {"organization": organization, "form": form}
    if request.method == "POST" and form.is_valid():
        fields = form.cleaned_data
        try:
            issued = keys.issue(
                organization=organization,
                by=request.user,
                scopes=fields["scopes"],
                expires_at=form.expires_at(),
                public_id=fields["token"],
                origin=origin_of(request),
                **form.limits(),
            )
            return _shown_once(request, organization, issued)
        except keys.AlreadyIssued as error:
            return _already_shown(request, organization, error.key)
        except keys.InvalidKey as error:
            form.add_error(error.field if error.field in form.fields else None, "This value is not allowed.")
        except IntegrityError:
            form.add_error(None, STALE_FORM)
    return render(request, "accounts/key_create.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "POST"])
@login_required
def key_edit(request: MemberRequest, slug: str, key_id: UUID) -> HttpResponse:
    """Another name and other limits for a live key of one's own; admins change all."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    key = get_object_or_404(organization.keys, public_id=key_id)
    if not may_change(request.membership, key):
        raise PermissionDenied(NOT_THEIRS)
    form = KeyChangeForm(request.POST if request.method == "POST" else None, key=key)
    if request.method == "POST" and form.is_valid():
        try:
            changed = keys.change(
                key=key, by=request.user, origin=origin_of(request), expires_at=form.expires_at(), **form.limits()
            )
            messages.success(request, f"Saved “{changed.name}”. Its limits hold within a second.")
            return redirect("accounts:key-list", slug)
        except keys.InvalidKey as error:
            told = ENDED if error.field == "key" else "This value is not allowed."
            form.add_error(error.field if error.field in form.fields else None, told)
    context = {"organization": organization, "key": key, "form": form}
    return render(request, "accounts/key_edit.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "POST"])
@login_required
def key_revoke(request: MemberRequest, slug: str, key_id: UUID) -> HttpResponse:
    organization = organization_for(request, slug, Role.DEVELOPER)
    key = get_object_or_404(organization.keys, public_id=key_id)
    if request.method == "POST":
        keys.revoke(key=key, by=request.user, origin=origin_of(request))
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
def key_rotate(request: MemberRequest, slug: str, key_id: UUID) -> HttpResponse:
    """Like `key_create`, the new key is in the answer to the POST and nowhere else."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    key = get_object_or_404(organization.keys, public_id=key_id)
    form = RotateForm(request.POST if request.method == "POST" else None)
    context = {"organization": organization, "key": key, "form": form}
    if request.method == "POST" and form.is_valid():
        token = form.cleaned_data["token"]
        try:
            issued = keys.rotate(
                key=key, by=request.user, grace=form.grace_period(), public_id=token, origin=origin_of(request)
            )
            key.refresh_from_db()
            return _shown_once(request, organization, issued, replaced=key)
        except keys.AlreadyIssued as error:
            return _already_shown(request, organization, error.key)
        except keys.InvalidKey as error:
            successor = organization.keys.filter(public_id=token, rotated_from=key).first()
            if successor:
                return _already_shown(request, organization, successor)
            form.add_error(None, ENDED_FOR_GOOD if error.field == "key" else FOR_STAFF)
        except IntegrityError:
            form.add_error(None, STALE_FORM)
    return render(request, "accounts/key_rotate.html", context, status=422 if form.is_bound else 200)


def _shown_once(
    request: MemberRequest, organization: Organization, issued: keys.Issued, replaced: ApiKey | None = None
) -> HttpResponse:
    context = {"organization": organization, "key": issued.key, "secret": issued.secret, "replaced": replaced}
    return render(request, "accounts/key_created.html", context, status=201)


def _already_shown(request: MemberRequest, organization: Organization, key: ApiKey) -> HttpResponse:
    context = {"organization": organization, "key": key}
    return render(request, "accounts/key_repeated.html", context, status=409)
