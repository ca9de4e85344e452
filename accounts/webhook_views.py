"""The webhooks of an organization: adding, changing, secrets, deliveries, replaying, testing."""

import json
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import IntegrityError, models
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import deliveries, events, webhooks
from accounts.access import MemberRequest, organization_for, origin_of
from accounts.models import Delivery, Organization, Role, Webhook
from accounts.team_forms import NewWebhookForm, OverlapForm, WebhookSettingsForm

PAGE_SIZE = 50
REPLAY_AT_ONCE = 1_000
REPEATED = (
    "The form was sent twice and added one webhook. Its secret was shown once: rotate it if you have not copied it."
)
STALE_FORM = "This form is out of date. Reload the page and fill it in again."
OFF = "This webhook is off. Turn it on first."


@require_safe
@login_required
def webhook_list(request: MemberRequest, slug: str) -> HttpResponse:
    organization = organization_for(request, slug, Role.DEVELOPER)
    dead = models.Count("deliveries", filter=models.Q(deliveries__state=Delivery.State.DEAD))
    rows = organization.webhooks.annotate(dead=dead).order_by("created_at", "pk")
    context = {"organization": organization, "webhooks": list(rows.fetch_mode(models.FETCH_RAISE))}
    return render(request, "accounts/webhook_list.html", context)


@never_cache
@sensitive_variables("made")
@require_http_methods(["GET", "POST"])
@login_required
def webhook_create(request: MemberRequest, slug: str) -> HttpResponse:
    """The secret is in the answer to the POST and nowhere else."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    form = NewWebhookForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        token, fields = form.cleaned_data.pop("token"), form.cleaned_data
        try:
            made = webhooks.add(
                organization=organization, public_id=token, by=request.user, origin=origin_of(request), **fields
            )
            return _shown_once(request, made)
        except webhooks.AlreadyAdded as error:
            messages.info(request, REPEATED)
            return redirect("accounts:webhook", slug, error.webhook.public_id)
        except IntegrityError:
            form.add_error(None, STALE_FORM)
        except webhooks.InvalidWebhook as error:
            form.add_error(error.field if error.field in form.fields else None, error.why)
    context = {"organization": organization, "form": form, "kinds": events.KINDS}
    return render(request, "accounts/webhook_create.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "POST"])
@login_required
def webhook(request: MemberRequest, slug: str, webhook_id: UUID) -> HttpResponse:
    """Settings and deliveries; POST changes the settings."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    found = _webhook(organization, webhook_id)
    names = ("url", "description", "kinds", "is_enabled")
    initial = {name: getattr(found, name) for name in names}
    form = WebhookSettingsForm(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            webhooks.change(webhook=found, by=request.user, origin=origin_of(request), **form.cleaned_data)
        except webhooks.InvalidWebhook as error:
            form.add_error(error.field, error.why)
        else:
            messages.success(request, "Saved.")
            return redirect("accounts:webhook", slug, webhook_id)
    state, before = request.GET.get("state", ""), request.GET.get("before", "")
    rows = found.deliveries.select_related("event").order_by("-pk")
    if state in Delivery.State.values:
        rows = rows.filter(state=state)
    if before.isascii() and before.isdigit() and len(before) < 19:
        rows = rows.filter(pk__lt=int(before))
    listed = list(rows[: PAGE_SIZE + 1])
    context = {
        "organization": organization,
        "webhook": found,
        "form": form,
        "deliveries": listed[:PAGE_SIZE],
        "older": listed[PAGE_SIZE - 1].pk if len(listed) > PAGE_SIZE else None,
        "is_first": not before,
        "state": state,
        "states": Delivery.State.choices,
        "dead": found.deliveries.filter(state=Delivery.State.DEAD).count(),
        "max_attempts": deliveries.MAX_ATTEMPTS,
    }
    template = "accounts/webhook.html#rows" if request.htmx else "accounts/webhook.html"
    response = render(request, template, context, status=422 if form.is_bound else 200)
    patch_vary_headers(response, ["HX-Request"])
    return response


@never_cache
@sensitive_variables("made")
@require_http_methods(["GET", "POST"])
@login_required
def webhook_rotate(request: MemberRequest, slug: str, webhook_id: UUID) -> HttpResponse:
    """Like `webhook_create`, the new secret is in the answer to the POST and nowhere else."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    found = _webhook(organization, webhook_id)
    form = OverlapForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        made = webhooks.rotate(webhook=found, overlap=form.period(), by=request.user, origin=origin_of(request))
        return _shown_once(request, made)
    context = {"organization": organization, "webhook": found, "form": form}
    return render(request, "accounts/webhook_rotate.html", context, status=422 if form.is_bound else 200)


@require_http_methods(["GET", "POST"])
@login_required
def webhook_remove(request: MemberRequest, slug: str, webhook_id: UUID) -> HttpResponse:
    organization = organization_for(request, slug, Role.DEVELOPER)
    found = _webhook(organization, webhook_id)
    if request.method == "POST":
        webhooks.remove(webhook=found, by=request.user, origin=origin_of(request))
        messages.success(request, "Removed the webhook.")
        return redirect("accounts:webhook-list", slug)
    template = "accounts/webhook_remove.html#confirm" if request.htmx else "accounts/webhook_remove.html"
    response = render(request, template, {"organization": organization, "webhook": found})
    patch_vary_headers(response, ["HX-Request"])
    return response


@require_POST
@login_required
def webhook_test(request: MemberRequest, slug: str, webhook_id: UUID) -> HttpResponse:
    """Send an event now and show what was answered."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    found = _webhook(organization, webhook_id)
    try:
        sent = deliveries.send_test(webhook=found, by=request.user, origin=origin_of(request))
    except deliveries.NotEnabled:
        messages.error(request, OFF)
        return redirect("accounts:webhook", slug, webhook_id)
    if sent.state == Delivery.State.DELIVERED:
        messages.success(request, f"The server answered {sent.last_status}.")
    else:
        answered = f"answered {sent.last_status}" if sent.last_status else "did not answer"
        messages.error(request, f"The server {answered}. We go on trying; the delivery says more.")
    return redirect("accounts:delivery", slug, webhook_id, sent.public_id)


@require_POST
@login_required
def webhook_replay(request: MemberRequest, slug: str, webhook_id: UUID) -> HttpResponse:
    """Send the dead letters again, the oldest first, up to `REPLAY_AT_ONCE`."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    found = _webhook(organization, webhook_id)
    dead = found.deliveries.filter(state=Delivery.State.DEAD).order_by("pk")[:REPLAY_AT_ONCE]
    _replay(request, found, list(dead))
    return redirect("accounts:webhook", slug, webhook_id)


@require_http_methods(["GET", "POST"])
@login_required
def delivery(request: MemberRequest, slug: str, webhook_id: UUID, delivery_id: UUID) -> HttpResponse:
    """What was sent and what was answered, each time; POST sends it again."""
    organization = organization_for(request, slug, Role.DEVELOPER)
    found = _webhook(organization, webhook_id)
    shown = get_object_or_404(found.deliveries.select_related("event"), public_id=delivery_id)
    if request.method == "POST":
        _replay(request, found, [shown])
        return redirect("accounts:delivery", slug, webhook_id, delivery_id)
    context = {
        "organization": organization,
        "webhook": found,
        "delivery": shown,
        "message_id": events.message_id(shown.event),
        "body": json.dumps(events.as_dict(shown.event, organization), indent=2, ensure_ascii=False),
        "attempts": shown.tries.order_by("-pk")[:PAGE_SIZE],
    }
    return render(request, "accounts/delivery.html", context)


def _webhook(organization: Organization, webhook_id: UUID) -> Webhook:
    return get_object_or_404(organization.webhooks.select_related("organization"), public_id=webhook_id)


def _replay(request: MemberRequest, found: Webhook, which: list[Delivery]) -> None:
    try:
        count = deliveries.replay(which, webhook=found, by=request.user, origin=origin_of(request))
    except deliveries.NotEnabled:
        messages.error(request, OFF)
    else:
        messages.success(request, f"{count} will be sent again within seconds." if count else "Nothing to send again.")


def _shown_once(request: MemberRequest, made: webhooks.Made) -> HttpResponse:
    context = {"organization": request.organization, "webhook": made.webhook, "secret": made.secret}
    return render(request, "accounts/webhook_secret.html", context, status=201)
