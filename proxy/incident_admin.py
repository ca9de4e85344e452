"""Goodwill credit as an action on incidents: here, because the status app knows nothing of money."""

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from billing.money import nanos_from_credits
from proxy import goodwill
from status.admin import IncidentAdmin
from status.models import Incident


class GoodwillForm(forms.Form):
    credits = forms.DecimalField(min_value=1, max_value=1_000_000, decimal_places=2, label="Credits for each")


@admin.action(description="Grant goodwill credit to those that were hit", permissions=["change"])
def grant_goodwill(
    model_admin: IncidentAdmin, request: HttpRequest, queryset: QuerySet[Incident]
) -> HttpResponse | None:
    """Show who was hit and ask for the amount; then grant it, once per organization and incident."""
    if queryset.count() != 1:
        messages.error(request, "Select one incident.")
        return None
    incident = queryset.get()
    form = GoodwillForm(request.POST if "credits" in request.POST else None)
    if form.is_valid():
        amount = nanos_from_credits(str(form.cleaned_data["credits"]))
        given = goodwill.grant(incident=incident, amount=amount, by=request.user)  # type: ignore[arg-type]
        messages.success(request, f"Granted {form.cleaned_data['credits']} credits to {given} organizations.")
        return None
    context = {
        **model_admin.admin_site.each_context(request),
        "title": "Goodwill credit",
        "incident": incident,
        "hits": goodwill.hit_by(incident),
        "form": form,
        "opts": model_admin.model._meta,
    }
    return TemplateResponse(request, "admin/status/goodwill.html", context)


IncidentAdmin.actions = (*IncidentAdmin.actions, grant_goodwill)
