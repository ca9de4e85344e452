"""What staff do in support cases, as actions on people and organizations: here, because some of it concerns money.

Everything that cannot be taken back, or that somebody should have a reason for, asks first.
"""

from typing import Any
from uuid import uuid4

from allauth.account.forms import ResetPasswordForm
from allauth.usersessions.models import UserSession
from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from accounts import audit, impersonation, keys
from accounts.access import origin_of
from accounts.admin import OrganizationAdmin, UserAdmin
from accounts.models import Organization, Role, User
from billing import moves
from billing.money import nanos_from_credits


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=impersonation.MAX_REASON, help_text="Such as the ticket. The customer can read it in the audit log."
    )


class CreditForm(forms.Form):
    credits = forms.DecimalField(label="Credits", max_digits=12, decimal_places=4, help_text="Below 0 to take.")
    reason = forms.CharField(max_length=200, help_text="The customer reads it on the statement.")
    token = forms.UUIDField(widget=forms.HiddenInput)


@admin.action(description="See the console as the selected person does…", permissions=["change"])
def look_as(model_admin: UserAdmin, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
    """Ask for the reason, then look. Never as staff."""
    person = _only(request, queryset)
    return None if person is None else _look(model_admin, request, person, "look_as", person.pk)


@admin.action(description="See the console as the owner does…", permissions=["change"])
def look_as_owner(
    model_admin: OrganizationAdmin, request: HttpRequest, queryset: QuerySet[Organization]
) -> HttpResponse | None:
    organization = _only(request, queryset)
    if organization is None:
        return None
    membership = organization.memberships.select_related("user").filter(role=Role.OWNER).first()
    if membership is None:
        messages.error(request, "It has no owner.")
        return None
    return _look(model_admin, request, membership.user, "look_as_owner", organization.pk)


def _look(
    model_admin: admin.ModelAdmin, request: HttpRequest, person: User, action: str, selected: int
) -> HttpResponse | None:
    form = ReasonForm(request.POST if "reason" in request.POST else None)
    if not form.is_valid():
        text = f"You will see what {person} sees, for an hour at most, and change nothing of it."
        return _asked(
            model_admin, request, form,
            title="Look as a customer", text=text, action=action, selected=[selected], verb="Look",
        )  # fmt: skip
    try:
        impersonation.begin(
            session=request.session,
            staff=request.user,  # type: ignore[arg-type]
            person=person,
            reason=form.cleaned_data["reason"],
            origin=origin_of(request),
        )
    except impersonation.MayNotImpersonate:
        messages.error(request, f"{person} is staff, or cannot sign in.")
        return None
    return redirect("proxy:console")


@admin.action(description="Give or take credit…", permissions=["change"])
def move_credit(
    model_admin: OrganizationAdmin, request: HttpRequest, queryset: QuerySet[Organization]
) -> HttpResponse | None:
    """The ledger's own verb, once per form however often it is sent."""
    organization = _only(request, queryset)
    if organization is None:
        return None
    form = CreditForm(request.POST if "credits" in request.POST else None, initial={"token": uuid4()})
    if not form.is_valid():
        text = f"For {organization}. It is a transfer in the books: a mistake is corrected by another one."
        return _asked(
            model_admin, request, form,
            title="Give or take credit", text=text, action="move_credit", selected=[organization.pk], verb="Move",
        )  # fmt: skip
    fields = form.cleaned_data
    try:
        moves.adjust(
            organization=organization,
            amount=nanos_from_credits(str(fields["credits"])),
            reason=fields["reason"],
            idempotency_key=f"support:{organization.pk}:{fields['token']}",
            by=request.user,  # type: ignore[arg-type]
            origin=origin_of(request),
        )
    except moves.NotEnough as problem:
        messages.error(request, str(problem))
    except moves.InvalidMove:
        messages.error(request, "Nothing to move.")
    else:
        messages.success(request, f"{fields['credits']} credits for {organization}.")
    return None


@admin.action(description="Revoke every key…", permissions=["change"])
def revoke_keys(
    model_admin: OrganizationAdmin, request: HttpRequest, queryset: QuerySet[Organization]
) -> HttpResponse | None:
    """For a customer whose keys have leaked."""
    live = [key for organization in queryset for key in organization.keys.live()]
    form = ReasonForm(request.POST if "reason" in request.POST else None)
    if not form.is_valid():
        text = f"{len(live)} keys of {queryset.count()} organizations are refused within a second. For good."
        selected = [organization.pk for organization in queryset]
        return _asked(
            model_admin, request, form,
            title="Revoke every key", text=text, action="revoke_keys", selected=selected, verb="Revoke",
        )  # fmt: skip
    for organization in queryset:
        audit.record(
            action="keys.revoke_all", target=organization, organization=organization, by=request.user,  # type: ignore[arg-type]
            origin=origin_of(request), reason=form.cleaned_data["reason"],
        )  # fmt: skip
    ended = sum(keys.revoke(key=key, by=request.user, origin=origin_of(request)) for key in live)  # type: ignore[arg-type]
    messages.success(request, f"Revoked {ended} keys.")
    return None


@admin.action(description="Send a link to reset the password", permissions=["change"])
def send_reset(model_admin: UserAdmin, request: HttpRequest, queryset: QuerySet[User]) -> None:
    for person in queryset.filter(is_active=True):
        form = ResetPasswordForm({"email": person.email})
        if form.is_valid():
            form.save(request)
            _noted(request, "user.send_reset", person)
    messages.success(request, "The links are on their way.")


@admin.action(description="Sign out everywhere", permissions=["change"])
def sign_out(model_admin: UserAdmin, request: HttpRequest, queryset: QuerySet[User]) -> None:
    ended = 0
    for person in queryset:
        for session in UserSession.objects.filter(user=person):
            session.end()
            ended += 1
        _noted(request, "user.sign_out", person)
    messages.success(request, f"Ended {ended} sessions.")


@admin.action(description="Switch off: no signing in", permissions=["change"])
def switch_off(model_admin: UserAdmin, request: HttpRequest, queryset: QuerySet[User]) -> None:
    """Of everybody but yourself."""
    for person in queryset.filter(is_active=True).exclude(pk=request.user.pk):
        person.is_active = False
        person.save(update_fields=["is_active"])
        _noted(request, "user.switch_off", person)
    messages.success(request, "Switched off. Their organizations' keys still work: freeze those, too, if need be.")


@admin.action(description="Switch on again", permissions=["change"])
def switch_on(model_admin: UserAdmin, request: HttpRequest, queryset: QuerySet[User]) -> None:
    for person in queryset.filter(is_active=False):
        person.is_active = True
        person.save(update_fields=["is_active"])
        _noted(request, "user.switch_on", person)
    messages.success(request, "Switched on.")


def _noted(request: HttpRequest, action: str, person: User) -> None:
    audit.record(action=action, target=person, organization=None, by=request.user, origin=origin_of(request))  # type: ignore[arg-type]


def _only(request: HttpRequest, queryset: QuerySet[Any]) -> Any:
    """The one that is selected; None, and a word about it, where there are several."""
    if queryset.count() == 1:
        return queryset.get()
    messages.error(request, "Select one.")
    return None


def _asked(model_admin: admin.ModelAdmin, request: HttpRequest, form: forms.Form, **context: Any) -> HttpResponse:
    """The page in between: `title`, `text`, `action`, the `selected` ids and the `verb` of its button."""
    context |= {**model_admin.admin_site.each_context(request), **context, "form": form, "opts": model_admin.opts}
    return TemplateResponse(request, "admin/support_action.html", context)


UserAdmin.actions = (*(UserAdmin.actions or ()), look_as, send_reset, sign_out, switch_off, switch_on)
OrganizationAdmin.actions = (*(OrganizationAdmin.actions or ()), look_as_owner, move_credit, revoke_keys)
