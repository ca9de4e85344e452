"""A person's own account: their name, every way in that they have, and the programs that act for them."""

from uuid import UUID

from allauth.account.models import EmailAddress
from allauth.socialaccount.adapter import get_adapter as get_social_adapter
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_http_methods

from accounts import api_sessions, second_factor
from accounts.access import MemberRequest, origin_of
from accounts.models import ApiSession, User

PROGRAMS = 50


class ProfileForm(forms.ModelForm):
    """What others in an organization see of a person."""

    class Meta:
        model = User
        fields = ("name",)
        widgets = {"name": forms.TextInput(attrs={"autocomplete": "name"})}

    def clean_name(self) -> str:
        return " ".join(self.cleaned_data["name"].split())


@require_http_methods(["GET", "POST"])
@login_required
def settings(request: MemberRequest) -> HttpResponse:
    user = request.user
    form = ProfileForm(request.POST if request.method == "POST" else None, instance=user)
    if form.is_bound and form.is_valid():
        user.save(update_fields=["name"])
        messages.success(request, "Saved.")
        return redirect("accounts:settings")
    context = {
        "form": form,
        "address": EmailAddress.objects.filter(user=user, primary=True).first(),
        "methods": second_factor.methods_of(user),
        "needs_second_factor": second_factor.is_missing(user),
        "connections": SocialAccount.objects.filter(user=user).count(),
        "has_providers": bool(get_social_adapter().list_providers(request)),
        "browsers": UserSession.objects.filter(user=user).count(),
        "programs": _programs_of(user),
    }
    return render(request, "accounts/settings.html", context, status=422 if form.errors else 200)


def _programs_of(user: User) -> list[ApiSession]:
    live = user.api_sessions.live().select_related("organization")
    return list(live.order_by("-refreshed_at")[:PROGRAMS])


@require_http_methods(["GET", "POST"])
@login_required
def session_end(request: MemberRequest, session_id: UUID) -> HttpResponse:
    """End the session of a program."""
    session = get_object_or_404(request.user.api_sessions.select_related("organization"), public_id=session_id)
    if request.method == "POST":
        api_sessions.end(session, by=request.user, origin=origin_of(request))
        messages.success(request, "The program is signed out.")
        return redirect("accounts:settings")
    template = "accounts/session_end.html#confirm" if request.htmx else "accounts/session_end.html"
    response = render(request, template, {"session": session})
    patch_vary_headers(response, ["HX-Request"])
    return response
