"""The pages of Realtime: the sessions of an organization, and the playground with its microphone."""

import time
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import MemberRequest, can, organization_for, origin_of
from accounts.models import Role
from proxy import client_secrets, playground, realtime_sessions
from proxy.gateway.realtime.secrets import DEFAULT_SECONDS, Wanted
from proxy.gateway.realtime.upstream import PATH
from proxy.models import Model

PAST_PER_PAGE = 50
MAX_OPEN_SHOWN = 200


@require_safe
@login_required
def session_list(request: MemberRequest, slug: str) -> HttpResponse:
    """The sessions that run now, kept up to date over the page's WebSocket, and the past ones."""
    organization = organization_for(request, slug, Role.VIEWER)
    past = Paginator(realtime_sessions.past_ones(organization), PAST_PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "organization": organization,
        "open_ones": list(realtime_sessions.open_ones(organization)[:MAX_OPEN_SHOWN]),
        "past": past,
        "may_end": can(request.membership, "keys.manage"),
    }
    template = "proxy/realtime/sessions.html#live" if request.htmx else "proxy/realtime/sessions.html"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_http_methods(["GET", "POST"])
@login_required
def session_end(request: MemberRequest, slug: str, session_id: UUID) -> HttpResponse:
    """Ask first, then end an open session."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    session = get_object_or_404(realtime_sessions.open_ones(organization), public_id=session_id)
    if request.method == "POST":
        realtime_sessions.end(session, by=request.user, reason="Ended by the organization.", origin=origin_of(request))
        messages.success(request, "The session ends within a second.")
        return redirect("proxy:sessions", slug)
    template = "proxy/realtime/end.html#confirm" if request.htmx else "proxy/realtime/end.html"
    response = render(request, template, {"organization": organization, "session": session})
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_safe
@login_required
def realtime_playground(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.DEVELOPER)
    speaking = [model for model in Model.objects.served().order_by("name") if PATH in model.endpoints]
    return render(request, "proxy/realtime/playground.html", {"organization": organization, "models": speaking})


@never_cache
@sensitive_variables("secret")
@require_POST
@login_required
def realtime_secret(request: MemberRequest, slug: str) -> HttpResponse:
    """An ephemeral key for the playground's own session: {"value", "expires_at"}."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    model = get_object_or_404(Model.objects.served(), name=request.POST.get("model", ""))
    if PATH not in model.endpoints:
        return JsonResponse({"error": "This model does not speak Realtime."}, status=400)
    key = playground.key_of(organization, by=request.user, origin=origin_of(request))
    expires_at = int(time.time()) + DEFAULT_SECONDS
    wanted = Wanted(model.name, {"type": "realtime", "model": model.name}, expires_at)
    secret = client_secrets.mint(key.pk, wanted, end_user=request.user.email, member=request.user)
    return JsonResponse({"value": secret, "expires_at": expires_at})
