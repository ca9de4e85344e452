"""Who hears of incidents by email: asked for, confirmed by the address's owner, ended with one click."""

from datetime import timedelta

import structlog
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from status.models import Notice, Subscriber

log = structlog.get_logger(__name__)

ASK_AGAIN_AFTER = timedelta(minutes=10)
MAX_ATTEMPTS = 8
BATCH = 100


def subscribe(email: str) -> None:
    """Ask the owner of `email` to confirm. Says nothing of whether the address is known; may run twice."""
    email = email.lower()
    subscriber, is_new = Subscriber.objects.get_or_create(email=email)
    if subscriber.confirmed_at is not None:
        return
    now = timezone.now()
    if not is_new:
        if now - subscriber.asked_at < ASK_AGAIN_AFTER:
            return
        subscriber.asked_at = now
        subscriber.save(update_fields=["asked_at"])
    context = {"site_name": settings.SITE_NAME, "url": _url("status:confirm", subscriber)}
    EmailMessage(
        f"Confirm: news of incidents at {settings.SITE_NAME}",
        render_to_string("status/email/confirm.txt", context),
        to=[email],
    ).send()


def confirm(token: str) -> bool:
    """Whether the token confirms a subscription, or has before; an old question is answered no."""
    subscriber = Subscriber.objects.filter(token=token).first()
    if subscriber is None:
        return False
    if subscriber.confirmed_at is None:
        if timezone.now() - subscriber.asked_at > Subscriber.CONFIRM_WITHIN:
            return False
        subscriber.confirmed_at = timezone.now()
        subscriber.save(update_fields=["confirmed_at"])
    return True


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
                .filter(sent_at=None, attempts__lt=MAX_ATTEMPTS)
                .order_by("attempts", "created_at")
                .first()
            )
            if notice is None:
                return sent
            notice.attempts += 1
            try:
                _message(notice).send()
            except OSError as error:  # SMTP errors are OSErrors
                log.warning("status_notice_not_sent", notice=notice.pk, error=type(error).__name__)
                notice.save(update_fields=["attempts"])
                return sent
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
    return EmailMessage(subject.replace("\n", " "), body, to=[notice.subscriber.email], headers=headers)


def _url(name: str, subscriber: Subscriber) -> str:
    return settings.SITE_URL + reverse(name, args=[subscriber.token])
