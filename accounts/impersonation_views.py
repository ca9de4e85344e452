"""The way back from looking as a customer."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from accounts import impersonation
from accounts.access import origin_of


@require_POST
def impersonation_end(request: Any) -> HttpResponse:
    """Back to the person's page in the administration."""
    found = request.impersonation
    if found is None:
        raise Http404
    impersonation.end(session=request.session, staff=found.staff, origin=origin_of(request))
    messages.success(request, f"You are yourself again. You looked as {found.person}.")
    return redirect("admin:accounts_user_change", found.person.pk)
