"""`/request-key`: a key for whoever asks, on an intranet. Not there unless SELF_SERVICE_KEYS is set."""

from typing import Any
from uuid import uuid4

from allauth.core import ratelimit
from django import forms
from django.conf import settings
from django.db import IntegrityError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from accounts import keys, self_service
from accounts.access import origin_of
from accounts.models import ApiKey

TEMPLATE = "accounts/request_key.html"
BAD_NAME = "Letters, digits, dots, dashes, underscores and @: at most 64 of them."


class RequestForm(forms.Form):
    """Who asks, and what for. `token` makes a second submit of the same form visible."""

    token = forms.UUIDField(widget=forms.HiddenInput)
    username = forms.CharField(
        label="Your name",
        max_length=64,
        help_text="As your colleagues know you, such as “alice”. Your keys are listed under it.",
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
    )
    note = forms.CharField(
        label="What for",
        max_length=self_service.MAX_NOTE,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "A team's tool"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["initial"] = {"token": uuid4(), **kwargs.get("initial", {})}
        super().__init__(*args, **kwargs)


@never_cache
@sensitive_variables("issued")
@require_http_methods(["GET", "POST"])
def request_key(request: HttpRequest) -> HttpResponse:
    """The new key is in the answer to the POST and nowhere else."""
    if not settings.SELF_SERVICE_KEYS:
        raise Http404
    if request.method == "GET":
        name = request.GET.get("username", "")[:64]
        context = {"form": RequestForm(initial={"username": name}), "username": name, "keys": _keys_of(name)}
        return render(request, TEMPLATE, context)
    form = RequestForm(request.POST)
    issued = _issued(request, form) if form.is_valid() else None
    if issued is None:
        return render(request, TEMPLATE, {"form": form, "keys": []}, status=422)
    context = {"issued": issued.key, "secret": issued.secret, "username": issued.key.requested.username}
    return render(request, TEMPLATE, context, status=201)


def _issued(request: HttpRequest, form: RequestForm) -> keys.Issued | None:
    """The key; None with the form saying why not."""
    fields = form.cleaned_data
    if not ratelimit.consume(request, action="request_key"):
        form.add_error(None, "Too many keys in a short time. Wait a minute.")
        return None
    try:
        return self_service.request(
            username=fields["username"], note=fields["note"], public_id=fields["token"], origin=origin_of(request)
        )
    except self_service.InvalidName:
        form.add_error("username", BAD_NAME)
    except self_service.TooManyKeys:
        form.add_error("username", f"This name has {self_service.MAX_KEYS} keys. Ask an operator to revoke some.")
    except (keys.AlreadyIssued, IntegrityError):
        form.add_error(None, "This form was already sent, and its key was shown then. Reload the page for another.")
    return None


def _keys_of(name: str) -> list[ApiKey]:
    try:
        return self_service.keys_of(name) if name else []
    except self_service.InvalidName:
        return []
