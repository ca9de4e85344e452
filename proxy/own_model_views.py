"""The page of an organization's own names for models and of its fallback."""

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Organization, Role
from proxy import own_models
from proxy.models import Model


class AliasForm(forms.Form):
    name = forms.CharField(
        label="Your name for it",
        max_length=200,
        help_text="What your code sends as the model.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    model = forms.ModelChoiceField(
        Model.objects.none(), to_field_name="name", label="Model", empty_label="Choose a model"
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.fields["model"].queryset = Model.objects.served().featured_first()  # type: ignore[attr-defined]


class FallbackForm(forms.Form):
    model = forms.ModelChoiceField(
        Model.objects.none(),
        to_field_name="name",
        label="Fallback model",
        required=False,
        empty_label="None: the request fails",
        help_text="Serves, at its own price, what no provider of the model asked for answers.",
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.fields["model"].queryset = Model.objects.served().featured_first()  # type: ignore[attr-defined]


@require_http_methods(["GET", "POST"])
@login_required
def own_models_page(request: MemberRequest, slug: str) -> HttpResponse:
    """Three verbs in `part`: alias, remove, fallback."""
    organization = organization_for(request, slug, Role.ADMIN if request.method == "POST" else Role.VIEWER)
    part = request.POST.get("part", "")
    alias = AliasForm(request.POST if part == "alias" else None)
    fallback = FallbackForm(
        request.POST if part == "fallback" else None, initial={"model": organization.fallback_model}, prefix="fallback"
    )
    if request.method == "POST" and _apply(request, organization, part, alias, fallback):
        return redirect("proxy:models", slug)
    context = {
        "organization": organization,
        "aliases": organization.model_aliases.select_related("model"),
        "alias_form": alias,
        "fallback_form": fallback,
        "may_manage": can(request.membership, "organization.manage"),
    }
    return render(request, "proxy/own_models.html", context, status=422 if request.method == "POST" else 200)


def _apply(
    request: MemberRequest, organization: Organization, part: str, alias: AliasForm, fallback: FallbackForm
) -> bool:
    """Do what was asked; False when the form is wrong."""
    who = {"by": request.user, "origin": origin_of(request)}
    if part == "remove":
        own_models.remove_alias(organization=organization, name=request.POST.get("name", ""), **who)  # type: ignore[arg-type]
        messages.success(request, "Removed the name.")
        return True
    if part == "fallback" and fallback.is_valid():
        own_models.set_fallback(organization=organization, model=fallback.cleaned_data["model"], **who)  # type: ignore[arg-type]
        messages.success(request, "Saved the fallback.")
        return True
    if part == "alias" and alias.is_valid():
        try:
            own_models.set_alias(
                organization=organization,
                name=alias.cleaned_data["name"],
                model=alias.cleaned_data["model"],
                **who,  # type: ignore[arg-type]
            )
        except own_models.InvalidAlias:
            alias.add_error("name", f"A name has no spaces, and there are at most {own_models.MAX_ALIASES}.")
            return False
        messages.success(request, f"“{alias.cleaned_data['name']}” now means {alias.cleaned_data['model']}.")
        return True
    return False
