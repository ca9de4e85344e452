"""The page of an organization's own keys at providers."""

from dataclasses import dataclass

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Role
from proxy import upstream_keys as verbs
from proxy.models import Provider, UpstreamKey


class UpstreamKeyForm(forms.Form):
    """A key to store; what is stored is never shown again."""

    provider = forms.ModelChoiceField(Provider.objects.none(), to_field_name="slug", empty_label=None)
    key = forms.CharField(
        label="Key",
        max_length=1_000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="Kept encrypted and never shown again. One that is stored already is replaced.",
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.fields["provider"].queryset = verbs.offered()  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Row:
    """A provider and the organization's key there, if it has one."""

    provider: Provider
    key: UpstreamKey | None


@require_http_methods(["GET", "POST"])
@login_required
def upstream_keys(request: MemberRequest, slug: str) -> HttpResponse:
    """The list, and the form that stores a key after the provider has accepted it."""
    _only_where_offered()
    organization = organization_for(request, slug, Role.ADMIN if request.method == "POST" else Role.VIEWER)
    form = UpstreamKeyForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        provider, key = form.cleaned_data["provider"], form.cleaned_data["key"]
        checked = verbs.check(provider, key)
        if not checked.is_good:
            form.add_error("key", checked.detail)
        else:
            try:
                verbs.store(
                    organization=organization, provider=provider, key=key, by=request.user, origin=origin_of(request)
                )
            except verbs.InvalidUpstreamKey:
                form.add_error("key", "This is not a key.")
            else:
                messages.success(request, f"Stored the key at {provider.name or provider.slug}. {checked.detail}")
                return redirect("proxy:upstream-keys", slug)
    own = {row.provider_id: row for row in organization.upstream_keys.all()}
    context = {
        "organization": organization,
        "rows": [Row(provider, own.get(provider.pk)) for provider in verbs.offered()],
        "form": form,
        "is_required": settings.REQUIRE_OWN_OPENAI_KEY,
        "may_manage": can(request.membership, "organization.manage"),
    }
    return render(request, "proxy/upstream_keys.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "POST"])
@login_required
def remove(request: MemberRequest, slug: str, provider: str) -> HttpResponse:
    """Asks first; removes on POST."""
    _only_where_offered()
    organization = organization_for(request, slug, Role.ADMIN)
    row = get_object_or_404(organization.upstream_keys.select_related("provider"), provider__slug=provider)
    if request.method == "POST":
        verbs.remove(organization=organization, provider=row.provider, by=request.user, origin=origin_of(request))
        messages.success(request, f"Removed the key at {row.provider.name or row.provider.slug}.")
        return redirect("proxy:upstream-keys", slug)
    context = {"organization": organization, "row": row, "is_required": settings.REQUIRE_OWN_OPENAI_KEY}
    template = "proxy/upstream_key_remove.html#confirm" if request.htmx else "proxy/upstream_key_remove.html"
    return render(request, template, context)


def _only_where_offered() -> None:
    if not settings.IS_SELF_HOSTED:
        raise Http404("own upstream keys are for self-hosted installations")
