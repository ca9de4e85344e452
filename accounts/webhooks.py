"""An organization's webhooks: adding, changing, turning off, rotating their secrets."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid4

from django.db import transaction
from django.utils import timezone

from accounts import audit, events, outgoing, secrets, signing
from accounts.errors import AccountsError
from accounts.models import Delivery, Organization, User, Webhook

MAX_WEBHOOKS = 20
MAX_OVERLAP = timedelta(days=7)


class InvalidWebhook(AccountsError):
    """`field` breaks a rule; `why` is for its owner."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class AlreadyAdded(AccountsError):
    """The form was sent twice: `webhook` was added the first time."""

    def __init__(self, webhook: Webhook) -> None:
        super().__init__(str(webhook.public_id))
        self.webhook = webhook


@dataclass(frozen=True, slots=True)
class Made:
    """A webhook with its new secret, which is shown once."""

    webhook: Webhook
    secret: str = field(repr=False)


def add(
    *,
    organization: Organization,
    url: str,
    kinds: Collection[str] = (),
    description: str = "",
    public_id: UUID | None = None,
    by: User | None,
    origin: audit.Origin | None = None,
) -> Made:
    """Send events of these kinds, or of all, to `url` from now on. Raises `InvalidWebhook`; with a `public_id` used
    before, `AlreadyAdded`."""
    _check_url(url)
    _check_kinds(kinds)
    secret = signing.new_secret()
    with transaction.atomic():
        Organization.objects.select_for_update().get(pk=organization.pk)
        earlier = organization.webhooks.filter(public_id=public_id).first() if public_id else None
        if earlier is not None:
            raise AlreadyAdded(earlier)
        if organization.webhooks.count() >= MAX_WEBHOOKS:
            raise InvalidWebhook("url", f"There can be {MAX_WEBHOOKS} webhooks.")
        made = Webhook.objects.create(
            public_id=public_id or uuid4(),
            organization=organization,
            url=url,
            kinds=sorted(set(kinds)),
            description=description,
            secret_encrypted=secrets.encrypt(secret),
            created_by=by,
        )
        _record("webhook.add", made, by, origin, kinds=made.kinds)
    return Made(made, secret)


def change(
    *,
    webhook: Webhook,
    url: str,
    kinds: Collection[str],
    description: str,
    is_enabled: bool,
    by: User | None,
    origin: audit.Origin | None = None,
) -> None:
    """Change where and what is sent, and whether. Events of the time that it was off are not sent later; the feed has
    them. Raises `InvalidWebhook`; not for an address that it has already when it is turned off."""
    if is_enabled or url != webhook.url:
        _check_url(url)
    _check_kinds(kinds)
    with transaction.atomic():
        found = Webhook.objects.select_for_update().get(pk=webhook.pk)
        was_enabled = found.is_enabled
        found.url, found.kinds, found.description = url, sorted(set(kinds)), description
        found.is_enabled = is_enabled
        if is_enabled and not was_enabled:
            found.off_reason, found.failing_since = Webhook.Off.ON, None
        elif was_enabled and not is_enabled:
            found.off_reason = Webhook.Off.BY_MEMBER
            give_up_pending(found)
        found.save(update_fields=["url", "kinds", "description", "is_enabled", "off_reason", "failing_since"])
        _record("webhook.change", found, by, origin, kinds=found.kinds, is_enabled=is_enabled)
    webhook.refresh_from_db()


def turn_off(webhook: Webhook, reason: str) -> bool:
    """Stop sending to a server that does not want it; False if it was off. For the worker."""
    with transaction.atomic():
        changed = Webhook.objects.filter(pk=webhook.pk, is_enabled=True).update(is_enabled=False, off_reason=reason)
        if changed:
            give_up_pending(webhook)
            _record("webhook.turn_off", webhook, None, None, reason=reason)
    return bool(changed)


def rotate(*, webhook: Webhook, overlap: timedelta, by: User | None, origin: audit.Origin | None = None) -> Made:
    """A new secret; for `overlap` every message is signed with the old one too. Raises `InvalidWebhook`."""
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise InvalidWebhook("overlap", f"At most {MAX_OVERLAP.days} days.")
    secret = signing.new_secret()
    with transaction.atomic():
        found = Webhook.objects.select_for_update().get(pk=webhook.pk)
        found.old_secret_encrypted = found.secret_encrypted if overlap else ""
        found.old_secret_until = timezone.now() + overlap if overlap else None
        found.secret_encrypted = secrets.encrypt(secret)
        found.save(update_fields=["old_secret_encrypted", "old_secret_until", "secret_encrypted"])
        _record("webhook.rotate", found, by, origin, overlap_hours=int(overlap.total_seconds() // 3600))
    return Made(found, secret)


def remove(*, webhook: Webhook, by: User | None, origin: audit.Origin | None = None) -> None:
    """Forget a webhook and its deliveries."""
    with transaction.atomic():
        _record("webhook.remove", webhook, by, origin)
        webhook.delete()


def secrets_of(webhook: Webhook) -> list[str]:
    """The secrets that sign now, the newest first. Raises `secrets.Undecryptable`."""
    found = [secrets.decrypt(webhook.secret_encrypted)]
    if webhook.old_secret_encrypted and webhook.old_secret_until and webhook.old_secret_until > timezone.now():
        found.append(secrets.decrypt(webhook.old_secret_encrypted))
    return found


def give_up_pending(webhook: Webhook) -> int:
    """What waits is not sent: it can be replayed."""
    waiting = webhook.deliveries.filter(state=Delivery.State.PENDING)
    return waiting.update(state=Delivery.State.DEAD, ended_at=timezone.now())


def _check_url(url: str) -> None:
    try:
        outgoing.check_url(url)
    except outgoing.ForbiddenAddress as error:
        raise InvalidWebhook("url", str(error)) from None


def _check_kinds(kinds: Collection[str]) -> None:
    for kind in kinds:
        if kind not in events.KINDS:
            raise InvalidWebhook("kinds", f"There is no event {kind}.")


def _record(action: str, webhook: Webhook, by: User | None, origin: audit.Origin | None, **data: object) -> None:
    audit.record(
        action=action, target=webhook, organization=webhook.organization, by=by, origin=origin, url=webhook.url, **data
    )
