"""Sending events to webhooks: at least once, retried over a day, then kept as dead letters until somebody replays them.

`dispatch` turns events into deliveries, each exactly once; `send_due` sends what is due. Both may be killed anywhere.
"""

import random
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import httpx
import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Window
from django.db.models.functions import RowNumber
from django.urls import reverse
from django.utils import timezone

from accounts import audit, events, letters, outgoing, secrets, signing, webhooks
from accounts.errors import AccountsError
from accounts.models import Attempt, Delivery, DispatchCursor, Role, User, Webhook

log = structlog.get_logger(__name__)

# After each failure, a little more or less: 5 s, 1 min, … in all about a day.
DELAYS = tuple(timedelta(seconds=each) for each in (5, 60, 300, 1_800, 7_200, 18_000, 28_800, 30_600))
MAX_ATTEMPTS = len(DELAYS) + 1
TURN_OFF_AFTER = timedelta(days=5)
# Whoever claims a delivery has so long to send it; then another worker may.
LEASE = timedelta(seconds=60)
DISPATCH_BATCH = 1_000
SEND_BATCH = 64
PER_WEBHOOK = 8  # of one batch: a slow server does not hold up the others
THREADS = 16
RUN_S = 45.0
MAX_RESPONSE = 1_024
GONE = 410


class NotEnabled(AccountsError):
    """The webhook is off: turn it on before sending to it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request. `status` is None where nobody answered, and `error` says why."""

    status: int | None
    error: str = ""
    response: str = ""
    latency_ms: int = 0

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def dispatch() -> int:
    """Make the deliveries of events that have none yet; returns of how many events. One at a time does it."""
    DispatchCursor.objects.get_or_create(pk=1)
    done = 0
    while True:
        with transaction.atomic():
            place = DispatchCursor.objects.select_for_update(skip_locked=True).filter(pk=1).first()
            if place is None:
                return done
            if events.restamp():
                place.transaction = 0
            found = events.since(events.Cursor(place.transaction, place.event), limit=DISPATCH_BATCH)
            if not found:
                return done
            wanted = _webhooks_of({event.organization_id for event in found})
            Delivery.objects.bulk_create(
                Delivery(webhook=webhook, event=event)
                for event in found
                for webhook in wanted.get(event.organization_id, ())
                if webhook.wants(event.kind) and webhook.created_at <= event.created_at
            )
            place.transaction, place.event = found[-1].transaction, found[-1].pk
            place.save()
        done += len(found)
        if len(found) < DISPATCH_BATCH:
            return done


def send_due() -> int:
    """Send what is due, many at a time; returns how many requests. What fails is due again later."""
    ends_at = time.monotonic() + RUN_S
    sent = 0
    with ThreadPoolExecutor(THREADS, thread_name_prefix="webhooks") as pool:
        while time.monotonic() < ends_at and (claimed := _claim()):
            requests = [_request(delivery) for delivery in claimed]
            answers = pool.map(_post, *zip(*requests, strict=True))  # threads touch no database
            for delivery, answer in zip(claimed, answers, strict=True):
                _note(delivery, answer)
            sent += len(claimed)
    return sent


def send_test(*, webhook: Webhook, by: User, origin: audit.Origin | None = None) -> Delivery:
    """Send an event that means nothing, to this webhook alone, now. Raises `NotEnabled`."""
    if not webhook.is_enabled:
        raise NotEnabled
    with transaction.atomic():
        event = events.record(
            organization=webhook.organization, kind=events.TEST, data={"message": "It works.", "sent_by": by.email}
        )
        delivery = Delivery.objects.create(webhook=webhook, event=event, attempts=1, next_at=timezone.now() + LEASE)
        audit.record(action="webhook.test", target=webhook, organization=webhook.organization, by=by, origin=origin)
    _note(delivery, _post(*_request(delivery)))
    return delivery


def replay(
    deliveries: Iterable[Delivery], *, webhook: Webhook, by: User | None, origin: audit.Origin | None = None
) -> int:
    """Send these again from the start; those that wait stay as they are. Returns how many. Raises `NotEnabled`."""
    if not webhook.is_enabled:
        raise NotEnabled
    with transaction.atomic():
        over = webhook.deliveries.filter(pk__in=[delivery.pk for delivery in deliveries])
        count = over.exclude(state=Delivery.State.PENDING).update(
            state=Delivery.State.PENDING, attempts=0, next_at=timezone.now(), ended_at=None
        )
        if count:
            audit.record(
                action="webhook.replay", target=webhook, organization=webhook.organization, by=by, origin=origin,
                deliveries=count,
            )  # fmt: skip
    return count


def _webhooks_of(organization_ids: set[int]) -> dict[int, list[Webhook]]:
    found: dict[int, list[Webhook]] = {}
    for webhook in Webhook.objects.filter(organization_id__in=organization_ids, is_enabled=True):
        found.setdefault(webhook.organization_id, []).append(webhook)
    return found


def _claim() -> list[Delivery]:
    """The next deliveries, ours until the lease is over; of each webhook only some."""
    now = timezone.now()
    waiting = Delivery.objects.filter(state=Delivery.State.PENDING, next_at__lte=now, webhook__is_enabled=True)
    turn = Window(RowNumber(), partition_by=F("webhook"), order_by=[F("next_at").asc(), F("pk").asc()])
    ranked = waiting.annotate(turn=turn).filter(turn__lte=PER_WEBHOOK).order_by("next_at", "pk")
    with transaction.atomic():
        ids = list(ranked.values_list("pk", flat=True)[:SEND_BATCH])
        rows = waiting.filter(pk__in=ids).select_for_update(skip_locked=True, of=("self",))
        claimed = list(rows.select_related("webhook__organization", "event").order_by("pk"))
        Delivery.objects.filter(pk__in=[each.pk for each in claimed]).update(
            attempts=F("attempts") + 1, next_at=now + LEASE
        )
    for delivery in claimed:
        delivery.attempts += 1
    return claimed


def _request(delivery: Delivery) -> tuple[str, bytes, dict[str, str] | None]:
    """Where, what and with which headers; no headers where the secret cannot be read any more."""
    webhook = delivery.webhook
    body = events.body_of(delivery.event, webhook.organization)
    try:
        signing_secrets = webhooks.secrets_of(webhook)
    except secrets.Undecryptable:
        log.error("webhook_secret_undecryptable", webhook=str(webhook.public_id))
        return webhook.url, body, None
    headers = signing.headers_of(events.message_id(delivery.event), body, *signing_secrets)
    return webhook.url, body, {"content-type": "application/json", "user-agent": settings.SITE_NAME, **headers}


def _post(url: str, body: bytes, headers: dict[str, str] | None) -> Answer:
    if headers is None:
        return Answer(None, "The secret cannot be read any more: rotate it.")
    started = time.monotonic()
    try:
        status, received = outgoing.post(url, body=body, headers=headers)
    except outgoing.ForbiddenAddress as error:
        return Answer(None, str(error), latency_ms=_ms_since(started))
    except (httpx.HTTPError, OSError) as error:
        return Answer(None, _words(error), latency_ms=_ms_since(started))
    text = received[:MAX_RESPONSE].decode(errors="replace").replace("\0", "�")
    return Answer(status, "", text, _ms_since(started))


def _note(delivery: Delivery, answer: Answer) -> None:
    """Keep what was answered and say when to send again, if at all."""
    now = timezone.now()
    with transaction.atomic():
        Attempt.objects.create(
            delivery=delivery, at=now, status=answer.status, error=answer.error[:200], response=answer.response,
            latency_ms=answer.latency_ms,
        )  # fmt: skip
        delivery.last_status = answer.status
        if answer.is_success:
            delivery.state, delivery.ended_at = Delivery.State.DELIVERED, now
            Webhook.objects.filter(pk=delivery.webhook_id).exclude(failing_since=None).update(failing_since=None)
        else:
            Webhook.objects.filter(pk=delivery.webhook_id, failing_since=None).update(failing_since=now)
            if delivery.attempts >= MAX_ATTEMPTS:
                delivery.state, delivery.ended_at = Delivery.State.DEAD, now
            else:
                jitter = random.uniform(0.8, 1.2)  # noqa: S311 - jitter
                delivery.next_at = now + DELAYS[delivery.attempts - 1] * jitter
        delivery.save(update_fields=["last_status", "state", "ended_at", "next_at"])
    if not answer.is_success:
        log.info("webhook_failed", delivery=str(delivery.public_id), status=answer.status, attempt=delivery.attempts)
        _consider_turning_off(delivery.webhook, answer)


def _consider_turning_off(webhook: Webhook, answer: Answer) -> None:
    webhook.refresh_from_db(fields=["failing_since"])
    is_long = webhook.failing_since is not None and timezone.now() - webhook.failing_since > TURN_OFF_AFTER
    reason = Webhook.Off.GONE if answer.status == GONE else Webhook.Off.FAILING if is_long else Webhook.Off.ON
    if reason and webhooks.turn_off(webhook, reason):
        log.warning("webhook_turned_off", webhook=str(webhook.public_id), reason=reason)
        _mail(webhook, Webhook.Off(reason).label)


def _mail(webhook: Webhook, why: str) -> None:
    organization = webhook.organization
    url = settings.SITE_URL + reverse("accounts:webhook", args=[organization.slug, webhook.public_id])
    letters.send(
        organization,
        roles=[Role.OWNER, Role.ADMIN, Role.DEVELOPER],
        subject=f"{organization.name}: a webhook was turned off",
        text=f"Nothing is sent to {webhook.url} any more. {why}.\n\nWhen it works again, turn it on and replay what it "
        f"missed:\n{url}\n",
        failure="webhook_mail_not_sent",
    )


def _ms_since(started: float) -> int:
    return int((time.monotonic() - started) * 1_000)


def _words(error: Exception) -> str:
    """What went wrong on the way, for the owner of the server."""
    if isinstance(error, httpx.TimeoutException):
        return f"No answer within {outgoing.TIMEOUT_S:.0f} seconds."
    if isinstance(error, httpx.ConnectError):
        return f"No connection: {error}"
    return f"The connection broke ({type(error).__name__})."
