"""Whether an organization keeps the words of its requests, and showing those of one request."""

import json
from uuid import UUID

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Role
from billing import transcripts, usage
from billing.transcript_models import MAX_DAYS


class TranscriptForm(forms.Form):
    """What shall be kept."""

    is_on = forms.BooleanField(
        label="Keep prompts and answers",
        required=False,
        help_text="Of every key of the organization, from now on. Images, sounds and files are never kept here.",
    )
    redacts_personal = forms.BooleanField(
        label="Take out e-mail addresses and phone numbers",
        required=False,
        help_text="Keys, passwords and card numbers are always taken out.",
    )
    retention_days = forms.IntegerField(
        label="Days to keep",
        min_value=1,
        max_value=MAX_DAYS,
        help_text=f"1 to {MAX_DAYS}; then they are deleted. Fewer than before apply to what is kept already, too.",
    )


@require_http_methods(["GET", "POST"])
@login_required
def transcript_settings(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.ADMIN if request.method == "POST" else Role.DEVELOPER)
    wanted = transcripts.settings_of(organization)
    initial = {name: getattr(wanted, name) for name in ("is_on", "redacts_personal", "retention_days")}
    form = TranscriptForm(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        transcripts.configure(
            organization=organization, by=request.user, origin=origin_of(request), **form.cleaned_data
        )
        messages.success(request, "Saved. Every worker follows within a second.")
        return redirect("billing:transcript-settings", slug)
    context = {
        "organization": organization,
        "form": form,
        "wanted": wanted,
        "kept": transcripts.count_of(organization),
        "may_manage": can(request.membership, "organization.manage"),
    }
    return render(request, "billing/transcript_settings.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "POST"])
@login_required
def transcripts_delete(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.ADMIN)
    if request.method == "POST":
        count = transcripts.delete_all(organization=organization, by=request.user, origin=origin_of(request))
        messages.success(request, f"Deleted the prompts and answers of {count:,} requests.")
        return redirect("billing:transcript-settings", slug)
    template = "billing/transcripts_delete.html#confirm" if request.htmx else "billing/transcripts_delete.html"
    context = {"organization": organization, "kept": transcripts.count_of(organization)}
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@never_cache
@require_safe
@login_required
def transcript(request: MemberRequest, slug: str, request_id: UUID) -> HttpResponse:
    """What one request asked and was answered. Written into the audit log each time."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    record = usage.one(organization, request_id)
    words = transcripts.read(record, by=request.user, origin=origin_of(request)) if record else None
    if record is None or words is None:
        raise Http404("nothing is kept of this request")
    context = {"organization": organization, "record": record, "words": words, "asked": _readable(words.request)}
    template = "billing/transcript.html#words" if request.htmx else "billing/transcript.html"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


def _readable(text: str) -> str:
    """JSON with a line for each thing; what is cut off stays as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text
