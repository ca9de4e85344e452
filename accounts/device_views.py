"""`/device`: type the code that a program shows, see who asks, and let it in for one organization, or turn it away."""

from typing import Any

from allauth.core.internal import ratelimit  # the public one does not count GET
from django import forms
from django.contrib.auth.views import redirect_to_login
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import device_login, sign_in
from accounts.access import MemberRequest, origin_of
from accounts.models import DeviceLogin, Organization, User

TEMPLATE = "accounts/device.html"
NO_SUCH_CODE = "This code is not known, or it has expired. Look at it again, or let the program show a new one."


class CodeForm(forms.Form):
    """The code, as people type it."""

    user_code = forms.CharField(
        label="Code",
        max_length=20,
        widget=forms.TextInput(
            attrs={
                "autocomplete": "off",
                "autocapitalize": "characters",
                "spellcheck": "false",
                "placeholder": "XXXX-XXXX",
                "class": "code-input",
            }
        ),
    )


class DecisionForm(forms.Form):
    """What the device is to act for."""

    organization = forms.ModelChoiceField(
        Organization.objects.none(), to_field_name="slug", empty_label=None, help_text="It can act for this one only."
    )

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["organization"]
        field.queryset = user.organizations.order_by("-is_personal", "name")  # type: ignore[attr-defined]


@never_cache
@require_http_methods(["GET", "POST"])
def device(request: MemberRequest) -> HttpResponse:
    """Without a code it asks for one; with one it shows who asks; a POST with `action` decides.

    Who is not signed in is sent to do so first, to the `provider` that the program named, if there is such a one here.
    """
    if not request.user.is_authenticated:
        return _to_sign_in(request)
    given = request.POST if request.method == "POST" else request.GET
    if "user_code" not in given:
        return render(request, TEMPLATE, {"form": CodeForm()})
    form = CodeForm(given)
    login = _asked_for(request, form)
    if login is None:
        return render(request, TEMPLATE, {"form": form}, status=422)
    sign_in.organization_of(request.user)  # so that there is one to choose
    code = device_login.normalized(form.cleaned_data["user_code"])
    context: dict[str, Any] = {"login": login, "code": f"{code[:4]}-{code[4:]}"}
    if request.method == "POST" and "action" in request.POST:
        return _decided(request, form, context)
    return render(request, TEMPLATE, context | {"decision": DecisionForm(request.user)})


def _to_sign_in(request: MemberRequest) -> HttpResponse:
    query = request.GET.copy()
    named = query.pop("provider", [""])[-1]
    page = f"{request.path}?{query.urlencode()}" if query else request.path
    address = sign_in.provider_address(request, named, page)
    return redirect(address) if address else redirect_to_login(page)


def _asked_for(request: MemberRequest, form: CodeForm) -> DeviceLogin | None:
    """The login under the code of the form, which otherwise says what is wrong with it."""
    if not form.is_valid():
        return None
    if not ratelimit.consume(request, app="allauth.account", action="device_code", user=request.user, limit_get=True):
        form.add_error(None, "Too many codes in a short time. Wait a minute.")
        return None
    try:
        return device_login.asking(form.cleaned_data["user_code"])
    except device_login.NoSuchCode:
        form.add_error("user_code", NO_SUCH_CODE)
        return None


def _decided(request: MemberRequest, form: CodeForm, context: dict[str, Any]) -> HttpResponse:
    login: DeviceLogin = context["login"]
    decision = DecisionForm(request.user, request.POST)
    is_approval = request.POST["action"] == "approve"
    try:
        if not is_approval:
            device_login.deny(login=login, user=request.user, origin=origin_of(request))
            return render(request, TEMPLATE, {"outcome": "denied", "login": login})
        if not decision.is_valid():
            return render(request, TEMPLATE, context | {"decision": decision}, status=422)
        organization = decision.cleaned_data["organization"]
        device_login.approve(
            login=login, user=request.user, organization=organization, origin=origin_of(request)
        )  # fmt: skip
    except device_login.NoSuchCode:
        form.add_error("user_code", NO_SUCH_CODE)
        return render(request, TEMPLATE, {"form": form}, status=422)
    return render(request, TEMPLATE, {"outcome": "approved", "login": login, "organization": organization})
