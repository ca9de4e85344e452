"""The status page and what hangs on it. The page and its feeds read the snapshot alone: no query, no session."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from allauth.core import ratelimit
from asgiref.sync import sync_to_async
from django import forms
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from accounts import outgoing
from status import feeds, snapshot, subscriptions
from status.models import Incident
from status.states import State

HISTORY_SIZE = 20
LOOK_EVERY_S = 2.0
COMMENT_EVERY_S = 15.0
STREAM_LASTS_S = 600.0
MAX_STREAMS = 500
PUBLIC_CACHE = "public, max-age=10"

_streams: set[object] = set()


class SubscribeForm(forms.Form):
    email = forms.EmailField(max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"}))
    url = forms.URLField(
        label="Your server's address",
        required=False,
        max_length=500,
        assume_scheme="https",
        help_text="Empty: by mail. Else updates are sent there as signed webhooks, and mail only confirms it.",
    )

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"]
        if url:
            try:
                outgoing.check_url(url)
            except outgoing.ForbiddenAddress as error:
                raise forms.ValidationError(str(error)) from None
        return url


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """All of it; `?part=board` is what changes, for the script that keeps the page live."""
    shown = snapshot.current()
    groups: dict[str, list[dict[str, Any]]] = {}
    for service in shown["services"]:
        groups.setdefault(service["group"], []).append(service)
    open_incidents = [one for one in shown["incidents"] if one["status"] != Incident.Status.RESOLVED]
    context = {
        "snapshot": shown,
        "state": State(shown["state"]),
        "groups": groups,
        "open_incidents": open_incidents,
        "past_incidents": [one for one in shown["incidents"] if one["status"] == Incident.Status.RESOLVED],
        "days": snapshot.DAYS,
    }
    template = "status/page.html#board" if request.GET.get("part") == "board" else "status/page.html"
    response = render(request, template, context)
    response["Cache-Control"] = PUBLIC_CACHE
    return response


@require_safe
def as_json(request: HttpRequest) -> HttpResponse:
    headers = {"Cache-Control": PUBLIC_CACHE, "Access-Control-Allow-Origin": "*"}
    return JsonResponse(feeds.document(snapshot.current()), headers=headers)


@require_safe
def rss(request: HttpRequest) -> HttpResponse:
    body = feeds.rss(snapshot.current())
    return HttpResponse(
        body, content_type="application/rss+xml; charset=utf-8", headers={"Cache-Control": PUBLIC_CACHE}
    )


@require_safe
def badge(request: HttpRequest, slug: str) -> HttpResponse:
    """The badge of a service; of all of them for the slug `all`."""
    shown = snapshot.current()
    if slug == "all":
        state = State(shown["state"])
        drawn = feeds.badge("status", state.slug, state.label.lower())
    else:
        service = next((one for one in shown["services"] if one["slug"] == slug), None)
        if service is None:
            raise Http404
        drawn = feeds.badge(service["name"], service["state"], service["label"].lower())
    return HttpResponse(drawn, content_type="image/svg+xml", headers={"Cache-Control": "public, max-age=60"})


@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """Every incident, newest first."""
    found = Incident.objects.filter(merged_into=None).prefetch_related("services", "updates")
    shown = Paginator(found, HISTORY_SIZE).get_page(request.GET.get("page"))
    return render(
        request, "status/history.html", {"page": shown, "incidents": [snapshot.incident_of(i) for i in shown]}
    )


@require_safe
def incident(request: HttpRequest, public_id: str) -> HttpResponse:
    """One incident, from the snapshot if it is recent; a merged one leads to where it went."""
    shown = next((one for one in snapshot.current()["incidents"] if one["id"] == public_id), None)
    if shown is None:
        found = get_object_or_404(Incident.objects.select_related("merged_into"), public_id=public_id)
        if found.merged_into is not None:
            return redirect("status:incident", found.merged_into.public_id)
        shown = snapshot.incident_of(found)
    return render(request, "status/incident.html", {"incident": shown})


async def events(request: HttpRequest) -> HttpResponse:
    """Server-sent events: `changed` whenever there is a new snapshot. The browser connects again after ten minutes."""
    if request.method != "GET":
        return HttpResponse(status=405, headers={"Allow": "GET"})
    if len(_streams) >= MAX_STREAMS:
        return HttpResponse(status=503, headers={"Retry-After": "60"})
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(_changes(), content_type="text/event-stream", headers=headers)


async def _changes() -> AsyncIterator[bytes]:
    me = object()
    _streams.add(me)
    try:
        seen = _fingerprint(await sync_to_async(snapshot.current)())
        yield b"retry: 5000\n\n"
        ends_at = time.monotonic() + STREAM_LASTS_S
        spoke_at = time.monotonic()
        while (now := time.monotonic()) < ends_at:
            await asyncio.sleep(LOOK_EVERY_S)
            found = _fingerprint(await sync_to_async(snapshot.current)())
            if found != seen:
                seen, spoke_at = found, now
                yield b"event: changed\ndata: 1\n\n"
            elif now - spoke_at >= COMMENT_EVERY_S:
                spoke_at = now
                yield b": still here\n\n"
    finally:
        _streams.discard(me)


def _fingerprint(shown: dict[str, Any]) -> tuple[Any, ...]:
    """What a reader would see change; not the time of the snapshot."""
    return (
        shown["is_stale"],
        [(one["slug"], one["label"], one["uptime"]) for one in shown["services"]],
        [(one["id"], one["title"], len(one["updates"])) for one in shown["incidents"]],
        [(one["title"], one["is_running"]) for one in shown["maintenances"]],
    )


@require_http_methods(["GET", "POST"])
def subscribe(request: HttpRequest) -> HttpResponse:
    form = SubscribeForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and not ratelimit.consume(request, action="status_subscribe"):
        form.add_error("email", "Too many subscriptions in a short time. Wait a while.")
    if request.method == "POST" and form.is_valid():
        subscriptions.subscribe(form.cleaned_data["email"], form.cleaned_data["url"])
        return render(request, "status/subscribed.html", {"email": form.cleaned_data["email"]})
    status = 422 if request.method == "POST" else 200
    return render(request, "status/subscribe.html", {"form": form}, status=status)


@never_cache
@require_http_methods(["GET", "POST"])
def confirm(request: HttpRequest, token: str) -> HttpResponse:
    """A page with one button: mail scanners follow links, people press buttons."""
    if request.method == "GET":
        return render(request, "status/confirm.html")
    confirmed = subscriptions.confirm(token)
    if confirmed is None:
        return render(request, "status/confirm_failed.html", status=410)
    return render(request, "status/confirmed.html", {"confirmed": confirmed})


@csrf_exempt  # the mail program's one-click request has no cookie (RFC 8058); the token is the proof
@never_cache
@require_http_methods(["GET", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    if request.method == "GET":
        return render(request, "status/unsubscribe.html")
    subscriptions.unsubscribe(token)
    return render(request, "status/unsubscribed.html")
