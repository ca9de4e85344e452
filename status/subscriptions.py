"""Who hears of incidents, by mail or at a server: asked for, confirmed by the address's owner, ended with one click."""

import json
import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from accounts import outgoing, secrets, signing
from accounts.subjects import one_line
from status.models import Incident, Notice, Subscriber

log = structlog.get_logger(__name__)

FIRST_RETRY = timedelta(seconds=15)
ASK_AGAIN_AFTER = timedelta(minutes=10)
# An address that has asked for nothing: with each server's address a question may be another one.
ASKED_WITHIN = timedelta(hours=1)
MAX_ASKED = 3
MAX_ATTEMPTS = 8
BATCH = 100


class Undelivered(Exception):
    """A server answered with another status than 2xx."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A confirmed subscription: its server, if it has one, and that server's secret, shown once."""

    url: str
    secret: str = field(repr=False)


def subscribe(email: str, url: str = "") -> None:
    """Ask the owner of `email` to confirm. Says nothing of whether the address is known; may run twice.

    With a `url` updates go there, signed, in place of mail. Raises `outgoing.ForbiddenAddress`.
    """
    if url:
        outgoing.check_url(url)
    email = email.lower()
    lately = Subscriber.objects.filter(email=email, confirmed_at=None, asked_at__gt=timezone.now() - ASKED_WITHIN)
    if lately.exclude(url=url).count() >= MAX_ASKED:
        return
    subscriber, is_new = Subscriber.objects.get_or_create(email=email, url=url)
    if subscriber.confirmed_at is not None:
        return
    now = timezone.now()
    if not is_new:
        if now - subscriber.asked_at < ASK_AGAIN_AFTER:
            return
        subscriber.asked_at = now
        subscriber.save(update_fields=["asked_at"])
    context = {"site_name": settings.SITE_NAME, "url": _url("status:confirm", subscriber), "server": url}
    EmailMessage(
        f"Confirm: news of incidents at {settings.SITE_NAME}",
        render_to_string("status/email/confirm.txt", context),
        to=[email],
    ).send()


def confirm(token: str) -> Confirmed | None:
    """Confirm a subscription; None for a token that nobody has, or an old question. Of a server the secret, once."""
    subscriber = Subscriber.objects.filter(token=token).first()
    if subscriber is None:
        return None
    secret = ""
    if subscriber.confirmed_at is None:
        if timezone.now() - subscriber.asked_at > Subscriber.CONFIRM_WITHIN:
            return None
        subscriber.confirmed_at = timezone.now()
        if subscriber.url:
            secret = signing.new_secret()
            subscriber.secret_encrypted = secrets.encrypt(secret)
        subscriber.save(update_fields=["confirmed_at", "secret_encrypted"])
    return Confirmed(subscriber.url, secret)


def unsubscribe(token: str) -> bool:
    """Forget the subscriber; False if there is none with this token."""
    return bool(Subscriber.objects.filter(token=token).delete()[0])


def send_due() -> int:
    """Send the notices that wait, each once; returns how many went out. What fails is tried again by the next run."""
    sent = 0
    for _ in range(BATCH):
        with transaction.atomic():
            notice = (
                Notice.objects.select_for_update(skip_locked=True, of=("self",))
                .select_related("subscriber", "update__incident", "maintenance")
                .filter(sent_at=None, attempts__lt=MAX_ATTEMPTS, next_at__lte=timezone.now())
                .order_by("next_at", "pk")
                .first()
            )
            if notice is None:
                return sent
            notice.attempts += 1
            try:
                _deliver(notice)
            # SMTP errors are OSErrors.
            except (OSError, httpx.HTTPError, outgoing.ForbiddenAddress, Undelivered) as error:
                log.warning("status_notice_not_sent", notice=notice.pk, error=type(error).__name__)
                notice.next_at = timezone.now() + FIRST_RETRY * 4 ** (notice.attempts - 1) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
                notice.save(update_fields=["attempts", "next_at"])
                continue
            notice.sent_at = timezone.now()
            notice.save(update_fields=["attempts", "sent_at"])
            sent += 1
    return sent


def forget() -> int:
    """Delete sent notices of 30 days ago and questions that nobody answered; returns how many rows."""
    now = timezone.now()
    old = Notice.objects.filter(created_at__lt=now - timedelta(days=30)).delete()[0]
    unanswered = Subscriber.objects.filter(confirmed_at=None, asked_at__lt=now - Subscriber.CONFIRM_WITHIN)
    return old + unanswered.delete()[0]


def _deliver(notice: Notice) -> None:
    """By mail, or to the subscriber's server. Raises what goes wrong."""
    if not notice.subscriber.url:
        _message(notice).send()
        return
    body = json.dumps(_event(notice)).encode()
    secret = secrets.decrypt(notice.subscriber.secret_encrypted)
    headers = signing.headers_of(f"msg_{notice.public_id.hex}", body, secret)
    status, _ = outgoing.post(notice.subscriber.url, body=body, headers={"content-type": "application/json", **headers})
    if not 200 <= status < 300:
        raise Undelivered(status)


def _event(notice: Notice) -> dict[str, Any]:
    if notice.update is not None:
        incident = notice.update.incident
        kind = "incident.resolved" if notice.update.status == Incident.Status.RESOLVED else "incident.updated"
        data: dict[str, Any] = {
            "incident": incident.public_id,
            "title": incident.title,
            "status": notice.update.status,
            "severity": incident.severity,
            "update": notice.update.body,
            "url": settings.SITE_URL + reverse("status:incident", args=[incident.public_id]),
        }
        return {"type": kind, "timestamp": notice.update.at.isoformat(), "data": data}
    assert notice.maintenance is not None  # noqa: S101 - one of the two
    work = notice.maintenance
    data = {
        "title": work.title,
        "body": work.body,
        "starts_at": work.starts_at.isoformat(),
        "ends_at": work.ends_at.isoformat(),
    }
    return {"type": "maintenance.announced", "timestamp": notice.created_at.isoformat(), "data": data}


def _message(notice: Notice) -> EmailMessage:
    unsubscribe_url = _url("status:unsubscribe", notice.subscriber)
    context = {
        "site_name": settings.SITE_NAME,
        "update": notice.update,
        "maintenance": notice.maintenance,
        "unsubscribe_url": unsubscribe_url,
        "status_url": settings.SITE_URL + reverse("status:page"),
    }
    if notice.update is not None:
        subject = f"[{notice.update.get_status_display()}] {notice.update.incident.title}"
        context["url"] = settings.SITE_URL + reverse("status:incident", args=[notice.update.incident.public_id])
    else:
        assert notice.maintenance is not None  # noqa: S101 - one of the two
        subject = f"[Maintenance] {notice.maintenance.title}"
        context["url"] = context["status_url"]
    # One-click unsubscribe: RFC 8058.
    headers = {"List-Unsubscribe": f"<{unsubscribe_url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    body = render_to_string("status/email/notice.txt", context)
    return EmailMessage(one_line(subject), body, to=[notice.subscriber.email], headers=headers)


def _url(name: str, subscriber: Subscriber) -> str:
    return settings.SITE_URL + reverse(name, args=[subscriber.token])
