"""The request log: its pages, its file, and the views that members save of it."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import MemberRequest, can, organization_for
from accounts.models import Role
from billing import money, request_log, saved_views
from billing.models import UsageRecord
from billing.usage_forms import FilterForm
from billing.usage_views import csv_of

EXPORTED = 10_000
HEAD = [
    *("id", "created_at", "model", "endpoint", "outcome", "status_code", "error_code", "key", "end_user", "run_id"),
    *("input_tokens", "cached_tokens", "output_tokens", "credits", "latency_ms", "ttft_ms", "stream", "estimated"),
    "org_label",
]


class ViewForm(forms.Form):
    """A name for the filters that are shown."""

    name = forms.CharField(
        max_length=60,
        widget=forms.TextInput(attrs={"autocomplete": "off", "placeholder": "Failed in production"}),
    )

    def clean_name(self) -> str:
        return " ".join(self.cleaned_data["name"].split())


@require_safe
@login_required
def request_list(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.VIEWER)
    form = FilterForm(request.GET, organization=organization)
    page = request_log.page(
        organization=organization,
        which=form.which(),
        before=_cursor(request.GET.get("before")),
        after=_cursor(request.GET.get("after")),
    )
    query = _kept(request.GET, form)
    context = {
        "organization": organization,
        "form": form,
        "page": page,
        "query": query,
        "exported": EXPORTED,
        "is_filtered": bool(query) or "before" in request.GET or "after" in request.GET,
    }
    if not request.htmx:
        context["views"] = saved_views.of(request.membership)
        context["may_read"] = can(request.membership, "requests.read")
    template = "billing/request_list.html#rows" if request.htmx else "billing/request_list.html"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_safe
@login_required
def request_file(request: MemberRequest, slug: str) -> HttpResponse:
    """The newest `EXPORTED` requests of the filter as CSV."""
    organization = organization_for(request, slug, Role.VIEWER)
    form = FilterForm(request.GET, organization=organization)
    found = request_log.walk(organization=organization, which=form.which(), most=EXPORTED)
    return csv_of(f"requests-{slug}.csv", HEAD, _cells(found))


@require_http_methods(["GET", "POST"])
@login_required
def view_create(request: MemberRequest, slug: str) -> HttpResponse:
    """A name for the filters in the address."""
    organization = organization_for(request, slug, Role.VIEWER)
    query = _kept(request.GET, FilterForm(request.GET, organization=organization))
    form = ViewForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            saved_views.save(membership=request.membership, name=form.cleaned_data["name"], query=query)
        except saved_views.TooManyViews:
            form.add_error("name", f"You have {saved_views.MAX_VIEWS} views: delete one first.")
        else:
            messages.success(request, f"Saved the view “{form.cleaned_data['name']}”.")
            return redirect(f"{reverse('billing:request-list', args=[slug])}?{query}")
    template = "billing/view_create.html#confirm" if request.htmx else "billing/view_create.html"
    context = {"organization": organization, "form": form, "query": query}
    response = render(request, template, context, status=422 if form.is_bound else 200)
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_http_methods(["GET", "POST"])
@login_required
def view_delete(request: MemberRequest, slug: str, view_id: UUID) -> HttpResponse:
    organization = organization_for(request, slug, Role.VIEWER)
    view = get_object_or_404(request.membership.saved_views, public_id=view_id)
    if request.method == "POST":
        view.delete()
        messages.success(request, f"Deleted the view “{view.name}”.")
        return redirect("billing:request-list", slug)
    template = "billing/view_delete.html#confirm" if request.htmx else "billing/view_delete.html"
    response = render(request, template, {"organization": organization, "view": view})
    patch_vary_headers(response, ["HX-Request"])
    return response


def _kept(given: QueryDict, form: FilterForm) -> str:
    """The filters of an address that are valid, as an address has them."""
    return urlencode({name: given[name] for name in form.given})


def _cursor(text: str | None) -> UUID | None:
    """A request id from the address; None where it is no id."""
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _cells(records: Iterator[UsageRecord]) -> Iterator[list[Any]]:
    for record in records:
        yield [
            f"req_{record.request_id.hex}",
            record.created_at.isoformat(timespec="milliseconds"),
            *(record.model, record.endpoint, record.outcome, record.status_code, record.error_code),
            record.key.name if record.key else "",
            *(record.end_user, record.run_id, record.input_tokens, record.cached_tokens, record.output_tokens),
            money.format_credits(record.cost_nanos),
            *(record.latency_ms, record.ttft_ms, record.stream, record.estimated, record.org_label),
        ]
