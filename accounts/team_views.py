"""Members of an organization: inviting, accepting, roles, removing, leaving, handing over."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import access, invitations, organizations
from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Invitation, Membership, Organization, Role
from accounts.team_forms import ROLE_HELP, InviteForm, RoleForm, TypedForm

MEMBERS_PER_PAGE = 50
TOO_MANY = (
    f"There are {invitations.MAX_OPEN} open invitations, or this address got {invitations.MAX_SENT} mails in a day. "
    "Revoke some, or try again tomorrow."
)
PAGE, OVER = "accounts/invitation.html", "accounts/invitation_over.html"


@require_http_methods(["GET", "POST"])
@login_required
def team(request: MemberRequest, slug: str) -> HttpResponse:
    """Members, open invitations and what each role may do; POST invites."""
    organization = organization_for(request, slug, Role.ADMIN if request.method == "POST" else Role.VIEWER)
    form = InviteForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid() and _invite(request, form):
        return redirect("accounts:team", slug)
    may_manage = can(request.membership, "members.manage")
    rows = organization.memberships.select_related("user").order_by("created_at", "pk")
    page = Paginator(rows.fetch_mode(models.FETCH_RAISE), MEMBERS_PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "organization": organization,
        "form": form,
        "page": page,
        "members": list(page),
        "invitations": organization.invitations.open().order_by("-created_at") if may_manage else [],
        "roles": RoleForm.base_fields["role"].choices,  # type: ignore[attr-defined]
        "may_manage": may_manage,
        "may_transfer": can(request.membership, "organization.transfer"),
        "permissions": _permission_table(),
    }
    return render(request, "accounts/team.html", context, status=422 if form.is_bound else 200)


@require_POST
@login_required
def member_role(request: MemberRequest, slug: str, member_id: UUID) -> HttpResponse:
    organization = organization_for(request, slug, Role.ADMIN)
    membership = _member(organization, member_id)
    form = RoleForm(request.POST)
    if not form.is_valid():
        messages.error(request, "There is no such role.")
        return redirect("accounts:team", slug)
    try:
        role = Role(form.cleaned_data["role"])
        organizations.change_role(membership=membership, role=role, by=request.user, origin=origin_of(request))
    except organizations.LastOwner:
        messages.error(request, "The owner stays the owner until the ownership is handed over.")
    else:
        messages.success(request, f"{membership.user.email} is {role.label.lower()} now.")
    return redirect("accounts:team", slug)


@require_http_methods(["GET", "POST"])
@login_required
def member_remove(request: MemberRequest, slug: str, member_id: UUID) -> HttpResponse:
    organization = organization_for(request, slug, Role.ADMIN)
    membership = _member(organization, member_id)
    if request.method == "POST":
        return _remove(request, membership, f"Removed {membership.user.email}.", "accounts:team")
    return _confirm(request, "accounts/member_remove.html", membership)


@require_http_methods(["GET", "POST"])
@login_required
def leave(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.VIEWER, while_closing=True)
    if request.method == "POST":
        return _remove(request, request.membership, f"You left “{organization.name}”.", "")
    return _confirm(request, "accounts/member_remove.html", request.membership)


@require_http_methods(["GET", "POST"])
@login_required
def ownership(request: MemberRequest, slug: str, member_id: UUID) -> HttpResponse:
    """Hand the organization over to another member."""
    organization = organization_for(request, slug, Role.OWNER)
    membership = _member(organization, member_id)
    form = TypedForm(request.POST if request.method == "POST" else None, organization=organization)
    if request.method == "POST" and form.is_valid():
        try:
            organizations.transfer_ownership(to=membership, by=request.user, origin=origin_of(request))
        except organizations.NotOwner:
            form.add_error(None, "Only the owner can hand it over, and only to another member.")
        else:
            messages.success(request, f"{membership.user.email} owns “{organization.name}” now; you are an admin.")
            return redirect("accounts:team", slug)
    context = {"organization": organization, "member": membership, "form": form}
    return render(request, "accounts/ownership.html", context, status=422 if form.is_bound else 200)


@require_POST
@login_required
def invitation_resend(request: MemberRequest, slug: str, invitation_id: UUID) -> HttpResponse:
    organization = organization_for(request, slug, Role.ADMIN)
    found = get_object_or_404(organization.invitations, public_id=invitation_id)
    try:
        sent = invitations.resend(invitation=found, by=request.user, origin=origin_of(request))
    except invitations.NotOpen:
        messages.error(request, "This invitation is over.")
    except invitations.TooMany:
        messages.error(request, "It was sent a moment ago, or often enough. Wait a minute, or invite anew.")
    else:
        _say_sent(request, sent.email, is_sent=sent.sent_at is not None)
    return redirect("accounts:team", slug)


@require_http_methods(["GET", "POST"])
@login_required
def invitation_revoke(request: MemberRequest, slug: str, invitation_id: UUID) -> HttpResponse:
    organization = organization_for(request, slug, Role.ADMIN)
    found = get_object_or_404(organization.invitations, public_id=invitation_id)
    if request.method == "POST":
        if invitations.revoke(invitation=found, by=request.user, origin=origin_of(request)):
            messages.success(request, f"The invitation of {found.email} is revoked.")
        return redirect("accounts:team", slug)
    context = {"organization": organization, "invitation": found}
    return _dialog(request, "accounts/invitation_revoke.html", context)


@never_cache
@require_http_methods(["GET", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """Where the link of the mail leads: sign in or up first, then accept."""
    found = invitations.find(token)
    if found is None or not found.is_open or found.organization.status not in organizations.USABLE:
        return render(request, OVER, {"invitation": found}, status=410)
    context: dict[str, Any] = {"invitation": found, "organization": found.organization}
    if not request.user.is_authenticated:
        back = urlencode({"next": request.path, "email": found.email})
        login_url = f"{reverse('account_login')}?{back}"
        if request.method == "POST":
            return redirect(login_url)
        context |= {"login_url": login_url, "signup_url": f"{reverse('account_signup')}?{back}"}
        return render(request, PAGE, context)
    context["is_for_user"] = invitations.is_for(found, request.user)
    return _accept(request, found, context) if request.method == "POST" else render(request, PAGE, context)


def _accept(request: HttpRequest, found: Invitation, context: dict[str, Any]) -> HttpResponse:
    try:
        invitations.accept(invitation=found, user=request.user, origin=origin_of(request))
    except invitations.WrongPerson:
        return render(request, PAGE, context, status=403)
    except invitations.NotOpen:
        return render(request, OVER, {"invitation": found}, status=410)
    messages.success(request, f"You are a member of “{found.organization.name}” now.")
    return redirect("proxy:overview", found.organization.slug)


def _invite(request: MemberRequest, form: InviteForm) -> bool:
    """Send the invitation of a valid form; False with what went wrong in the form."""
    email = form.cleaned_data["email"]
    try:
        made = invitations.invite(
            organization=request.organization,
            email=email,
            role=Role(form.cleaned_data["role"]),
            by=request.user,
            origin=origin_of(request),
        )
    except invitations.AlreadyMember:
        form.add_error("email", "A member has this address.")
    except invitations.AlreadyInvited:
        form.add_error("email", "This address is invited already. Send the invitation again, or revoke it.")
    except invitations.TooMany:
        form.add_error(None, TOO_MANY)
    else:
        _say_sent(request, made.email, is_sent=made.sent_at is not None)
        return True
    return False


def _say_sent(request: HttpRequest, email: str, *, is_sent: bool) -> None:
    if is_sent:
        messages.success(request, f"Sent an invitation to {email}. It is good for {invitations.VALID_FOR.days} days.")
    else:
        messages.error(request, f"The mail to {email} could not be sent. Try “Send again” in a while.")


def _member(organization: Organization, member_id: UUID) -> Membership:
    rows = organization.memberships.select_related("user", "organization")
    return get_object_or_404(rows, public_id=member_id)


def _remove(request: MemberRequest, membership: Membership, done: str, then: str) -> HttpResponse:
    slug = request.organization.slug
    try:
        ended = organizations.remove_member(
            membership=membership, by=request.user, revoke_keys="revoke_keys" in request.POST, origin=origin_of(request)
        )
    except organizations.LastOwner:
        messages.error(request, "The owner cannot go: hand the organization over first, or delete it.")
        return redirect("accounts:team", slug)
    messages.success(request, f"{done} {ended} of their keys ended." if ended else done)
    is_self = membership.user_id == request.user.pk
    return redirect("proxy:console") if is_self or not then else redirect(then, slug)


def _confirm(request: MemberRequest, template: str, membership: Membership) -> HttpResponse:
    made = request.organization.keys.live().filter(created_by=membership.user_id).count()
    context = {
        "organization": request.organization,
        "member": membership,
        "live_keys": made,
        "is_self": membership.user_id == request.user.pk,
    }
    return _dialog(request, template, context)


def _dialog(request: MemberRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """The page that asks, or its part for the dialog of the page that asked."""
    response = render(request, f"{template}#confirm" if request.htmx else template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _permission_table() -> list[tuple[str, str, list[str]]]:
    """(role, what it is for, what it may do) from the one table that decides it."""
    told = {Role.OWNER: "one person; also hands over and deletes"} | ROLE_HELP
    return [
        (role.label, text, [name for name, roles in access.PERMISSIONS.items() if role in roles])
        for role, text in told.items()
    ]
